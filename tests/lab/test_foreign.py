"""What gitwan did not make stays as it is, whatever gitwan does on the host. The tests run in their order."""

from __future__ import annotations

import json
import signal

import pytest

from tests.lab.dumps import addresses, others, our_links, ours, routes, rules
from tests.lab.edits import more_tunnels, remove_home
from tests.lab.twin import Twin, eventually, soon_nothing

pytestmark = [pytest.mark.lab, pytest.mark.root]

HOST = "ams-gw1"
FOREIGN = """
set -e
ip route add 10.99.0.0/16 via 203.0.113.1 proto static metric 50
ip route add 10.20.0.0/16 via 203.0.113.1 proto static metric 4000
ip route add 192.168.10.0/24 via 203.0.113.1 proto bird metric 4000
ip -6 route add fd00:20::/64 via 2001:db8:113::1 proto static metric 4000
ip rule add priority 98 from 10.98.0.1 lookup 98
ip -6 rule add priority 98 from fd00:98::1 lookup 98
ip route add default via 203.0.113.1 table 98
ip nexthop add id 98 via 203.0.113.1 dev bond0
ip address add 10.96.0.1/24 dev eno4
ip link add br-foreign type bridge
ip link set br-foreign alias somebody-else up
iptables -N OTHERS
iptables -A OTHERS -s 10.97.0.0/16 -j DROP
iptables -I INPUT 1 -j OTHERS
iptables -A FORWARD -d 10.97.0.0/16 -j DROP
iptables -t nat -A POSTROUTING -s 10.97.0.0/16 -j MASQUERADE
ip6tables -A FORWARD -d fd00:97::/64 -j DROP
wireguard-go wg-foreign 2>/dev/null
wg genkey > /run/wireguard/foreign.key
wg set wg-foreign listen-port 7777 private-key /run/wireguard/foreign.key
wg set wg-foreign peer $(wg genkey | wg pubkey) allowed-ips 10.97.1.0/24 endpoint 198.51.100.1:7777
ip address add 10.97.1.1/24 dev wg-foreign
ip link set wg-foreign up
ip netns add foreign
sysctl -q -w net.ipv4.conf.bond0.arp_announce=2
"""
LOOKS = ("wg show wg-foreign dump", "stat -c %i /run/netns/foreign", "sysctl net.ipv4.conf.bond0.arp_announce")

Picture = dict[str, str | list[str]]


def picture(twin: Twin) -> Picture:
    """Everything on the host that is somebody else's."""
    found: Picture = others(twin, HOST)
    found |= {look: twin.run(HOST, look) for look in LOOKS}
    found["addresses"] = twin.run(HOST, "ip -j address show wg-foreign") + twin.run(HOST, "ip -j address show bond0")
    found["nexthop"] = twin.run(HOST, "ip -j nexthop show id 98")
    return found


@pytest.fixture(scope="module")
def foreign(twin: Twin) -> Picture:
    """Somebody else's things on the host, and how they look."""
    twin.run(HOST, "sh", "-c", FOREIGN)
    found = picture(twin)
    text = json.dumps(found)
    for mark in ("10.99.0.0/16", "'priority': 98", "OTHERS", "wg-foreign", "br-foreign", "fd00:97::/64", "MASQUERADE"):
        assert mark in text
    return found


def test_it_is_there_and_the_agent_has_nothing_to_do(twin: Twin, foreign: Picture) -> None:
    answer = twin.cycle(HOST)
    assert (answer["ok"], answer["report"]["operations"], answer["report"]["conflicts"]) == (True, 0, [])
    assert picture(twin) == foreign


def test_applying_a_commit_leaves_it(twin: Twin, foreign: Picture) -> None:
    more_tunnels(twin)
    twin.converged(twin.push("a fourth tunnel"))
    assert "wg-fra-4" in our_links(twin, HOST)
    assert picture(twin) == foreign


def test_repairing_drift_leaves_it(twin: Twin, foreign: Picture) -> None:
    # A tunnel that was just made has its share of the flows as soon as it answers.
    soon_nothing(lambda: [row["device"] for row in twin.status(HOST)["tunnels"] if not row["up"]])
    before = ours(twin, HOST)
    twin.run(HOST, "ip link del wg-fra-1")
    twin.run(HOST, "ip link del wg-home-1")
    twin.run(HOST, "iptables -F GITWAN-INPUT")
    twin.run(HOST, "iptables -D FORWARD -j GITWAN-FORWARD")
    twin.run(HOST, "ip route del 192.168.10.0/24 proto bird")
    twin.run(HOST, "ip route add 192.168.10.0/24 via 203.0.113.1 proto bird metric 4000")
    twin.run(HOST, "ip address del 10.10.0.1/16 dev eno4")
    soon_nothing(lambda: {name for name, now in ours(twin, HOST).items() if now != before[name]})
    assert picture(twin) == foreign


def test_removing_a_site_leaves_it(twin: Twin, foreign: Picture) -> None:
    remove_home(twin)
    twin.converged(twin.push("give up home"), set(twin.hosts) - {"nas"})
    assert "wg-home-1" not in our_links(twin, HOST)
    assert not any(route[0] == "192.168.10.0/24" for route in routes(twin, HOST))
    assert picture(twin) == foreign


def test_giving_the_host_back_takes_all_that_is_ours_and_leaves_it(twin: Twin, foreign: Picture) -> None:
    kept = json.loads((twin.folder.host(HOST) / "state/inventory.json").read_text())["values"]
    code, listed = twin.gitwan(HOST, "remove")
    assert code == 0 and "- link       wg-fra-1" in listed and "run again with --yes" in listed
    assert "foreign" not in listed and "10.99.0.0/16" not in listed
    code, said = twin.gitwan(HOST, "remove", "--yes")
    assert code == 0, said

    assert our_links(twin, HOST) == {}
    assert routes(twin, HOST) == set()
    assert rules(twin, HOST, ours=True) == []
    for family in ("-4", "-6"):
        assert "117" not in twin.run(HOST, f"ip {family} route show table all proto 117")
        assert "proto 117" not in twin.run(HOST, f"ip {family} rule show")
    assert "117" not in twin.run(HOST, "ip nexthop show")
    assert twin.run(HOST, "sh", "-c", "ls /run/wireguard/*.sock") == "/run/wireguard/wg-foreign.sock\n"
    assert addresses(twin, HOST) == {
        ("bond0", "203.0.113.10/24"),
        ("bond0", "2001:db8:113::10/64"),
        ("eno4", "10.96.0.1/24"),
        ("wg-foreign", "10.97.1.1/24"),
    }
    assert {name for name in kept if "/wg-" not in name} >= {"sysctl:net/ipv4/ip_forward"}
    for name, value in kept.items():
        path = f"/proc/sys/{name.removeprefix('sysctl:')}"
        code, now, _ = twin.attempt(HOST, f"cat {path}")
        assert code != 0 or now.split() == value.split(), name
    assert picture(twin) == foreign


def test_starting_the_agent_again_brings_everything_back(twin: Twin, foreign: Picture) -> None:
    twin.restart(HOST, signal.SIGTERM)
    eventually(lambda: twin.folder.agent_socket(HOST).exists())
    twin.converged(twin.head, [HOST])
    assert our_links(twin, HOST).keys() == {"wg-fra-1", "wg-fra-2", "wg-fra-3", "wg-fra-4", "wg-ireland-1"}
    assert picture(twin) == foreign
    assert twin.reaches(("ams-server", "10.20.0.100"), ("ams-server", "fd00:1:0:1::a")) == []
