"""Exits with gateways that are written down: packets at the ISP, switches, and what outlives the agent."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from schema.plan.marks import DEFAULT
from tests.contract.conftest import needs_root
from tests.drill import everything
from tests.lab.exiting import CONTAINER, CONTENT, HOME, SERVER, Capture, Home, home
from tests.namespaces import run

pytestmark = [pytest.mark.lab, pytest.mark.root]
ELECTIONS = 50 if everything() else 5
EXITS = "exits: how long service is away"
Figures = dict[str, list[tuple[str, str]]]


@pytest.fixture
def world(short_folder: Path) -> Iterator[Home]:
    needs_root()
    short_folder.mkdir()
    with home(short_folder) as found:
        yield found


def connected(world: Home, **changes: object) -> str:
    """The gateway that carries, once it does."""
    world.plan(**changes)
    world.start()
    return world.elected()[0]


def test_lan_and_host_reach_the_internet_by_a_gateway(world: Home) -> None:
    gateway = connected(world)
    seen = world.address(int(gateway[1:]))
    for where in ("lan", "home"):
        world.until(lambda where=where: world.fetch(where) == seen, where)  # type: ignore[misc]
    shown = world.inside("home", "wg show wg-vpn")
    assert f"fwmark: {DEFAULT.bypass:#x}" in shown and "latest handshake" in shown and "allowed ips: 0.0.0.0/0" in shown


def test_an_exit_comes_beside_kubernetes_firewall(world: Home) -> None:
    """Which drops what has the bit 0x8000 in its mark: neither the tunnel's packets nor what comes in have it."""
    world.inside("home", "iptables -N KUBE-FIREWALL")
    world.inside("home", "iptables -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP")
    for hook in ("INPUT", "OUTPUT"):
        world.inside("home", f"iptables -I {hook} -j KUBE-FIREWALL")
    connected(world)
    world.until(world.carried, "carried")
    # By the underlay, too, this host goes on answering whoever asks.
    assert "1 received" in run(f"ping -c 1 -W 2 {HOME}")


def test_other_marks_take_over_while_the_exit_goes_on(world: Home) -> None:
    world.marks = "0xea55/0xffffffff"
    gateway = connected(world)
    for marks, value in ((str(DEFAULT), DEFAULT.bypass), ("0x3000/0x7000", 0x3000)):
        world.marks = marks
        world.plan()
        world.until(lambda value=value: f"fwmark: {value:#x}\n" in world.inside("home", "wg show wg-vpn"), marks)  # type: ignore[misc]
        world.until(lambda: world.carried(gateway), "carried by the same")


def test_nothing_leaves_beside_a_tunnel(world: Home) -> None:
    """Before the first connection, over forced elections, a SIGKILL, a start from nothing, and another exit's plan."""
    for n in range(1, world.gateways + 1):
        world.silence(f"g{n}")
    world.plan()
    world.start()
    world.until(lambda: "59988" in world.inside("home", "ip rule"), "refused")
    world.capture.begin()
    for where in ("lan", "home"):
        world.noise(where)
    world.until(lambda: world.refused() > 500, "packets that had no way")
    assert world.capture.leaks == Counter(), world.capture.text
    for n in range(1, world.gateways + 1):
        world.silence(f"g{n}", silent=False)
    carrying = world.elected(seconds=60.0)
    for _ in range(ELECTIONS):
        assert world.order("next")["ok"]
        carrying = world.elected(carrying)
    assert world.capture.leaks == Counter(), world.capture.text
    world.kill()
    world.until(world.carried, "carried without an agent")
    power_cut(world)
    world.start()
    world.until(lambda: "59988" in world.inside("home", "ip rule"), "refused again")
    world.underlay()
    world.until(world.carried, "connected after a start from nothing")
    world.plan(on_switch="drain", use=2)
    world.until(lambda: len(world.carrying()) == 2, "two at once")
    print(f"\n{ELECTIONS} forced elections: {world.capture.text}")
    assert world.capture.seen.total() > 1000
    assert world.capture.leaks == Counter(), world.capture.text


def power_cut(world: Home) -> None:
    """What it leaves of the kernel's state; the underlay comes up after the agent's start (network-pre.target)."""
    world.inside("home", "ip link set eth0 down")
    world.inside("home", "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")
    for dev in ("wg-vpn", "wg-vpn-2"):
        subprocess.run(["ip", "netns", "exec", "home", "ip", "link", "del", dev], check=False, capture_output=True)
    for family in ("-4", "-6"):
        world.inside("home", f"ip {family} route flush table all proto 117")
        for priority in ("1170", "1172", "1179"):
            script = f"while ip {family} rule del priority {priority}; do :; done"
            subprocess.run(["ip", "netns", "exec", "home", "sh", "-c", script], check=False, capture_output=True)
    for tool in ("iptables", "ip6tables"):
        for table in ("filter", "mangle", "nat"):
            world.inside("home", f"{tool} -t {table} -F")
            world.inside("home", f"{tool} -t {table} -X")


def test_the_agent_finds_its_tunnel_again_after_a_sigkill(world: Home) -> None:
    gateway = connected(world)
    before = world.inside("home", "wg show wg-vpn latest-handshakes")
    world.kill()
    world.until(lambda: world.carried(gateway), "carried without an agent")
    world.start()
    world.until(lambda: world.carrying() == [gateway], "adopted")
    assert world.inside("home", "wg show wg-vpn latest-handshakes") == before
    world.until(lambda: world.carried(gateway), "carried by the same")


def test_silence_is_noticed_and_another_gateway_carries(world: Home, measured: Figures) -> None:
    gateway = connected(world)
    world.until(lambda: [t["baseline"] for t in world.exit["tunnels"]] not in ([], [None]), "a baseline")
    world.silence(gateway)
    since = time.monotonic()
    world.until(world.carried, "carried again")
    took = f"{time.monotonic() - since:.1f} s until another carries, at most 6 s"
    measured.setdefault(EXITS, []).append(("a gateway falls silent, interval and timeout 1s", took))
    assert gateway not in world.elected([gateway])


def test_names_are_looked_up_by_the_exit_whoever_is_asked(world: Home) -> None:
    connected(world)
    asking = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); "
        "s.sendto(b'who?', ('9.9.9.9', 53)); print(s.recv(99))"
    )
    for where in ("lan", "home"):
        done = subprocess.run(
            ["ip", "netns", "exec", where, "python3", "-c", asking], capture_output=True, text=True, check=False
        )
        assert "who?answered" in done.stdout, (where, done.stderr)


def test_a_download_survives_a_switch_where_flows_are_drained(world: Home) -> None:
    gateway = connected(world, on_switch="drain")
    file = world.folder / "download"
    download = subprocess.Popen(
        ["ip", "netns", "exec", "lan", "curl", "-s", "-m", "40", "-o", str(file), "-w", "%{size_download}",
         "http://203.0.113.80/slow"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    world.until(lambda: file.exists() and file.stat().st_size > 100_000, "under way")
    world.order("next")
    (other,) = world.elected([gateway])
    world.until(lambda: world.carried(other), "carried by the other")
    assert download.communicate()[0] == "2000000"


def test_flows_move_to_the_next_gateway(world: Home, measured: Figures) -> None:
    gateway = connected(world)
    output = world.folder / "ping"
    with output.open("w") as file:
        command = ["ip", "netns", "exec", "lan", "ping", "-D", "-i", "0.02", "203.0.113.80"]
        pinging = subprocess.Popen(command, stdout=file)

    def times() -> list[float]:
        lines = [line for line in output.read_text().splitlines() if "bytes from" in line]
        return [float(line[1:].split("]")[0]) for line in lines]

    world.until(lambda: len(times()) > 50, "answers")
    world.order("next")
    world.elected([gateway])
    enough = len(times()) + 50
    world.until(lambda: len(times()) > enough, "answers by the other")
    pinging.terminate()
    pinging.wait()
    gap = max(after - before for before, after in pairwise(times()))
    figure = f"{gap * 1000:.0f} ms between two answers, at most 300 ms"
    measured.setdefault(EXITS, []).append(("flows move to another gateway, a ping each 20 ms", figure))


def test_two_at_once_have_half_of_the_buckets_each_and_losing_one_leaves_the_others_flows(world: Home) -> None:
    connected(world, use=2)
    world.until(lambda: len(world.carrying()) == 2, "two")

    def buckets() -> Counter[int]:
        group = next(n["id"] for n in json.loads(world.inside("home", "ip -j nexthop")) if "group" in n)
        rows = json.loads(world.inside("home", f"ip -j nexthop bucket show id {group}"))
        return Counter(row["bucket"]["nhid"] for row in rows)

    def even() -> bool:
        found = buckets()
        return len(found) == 2 and max(found.values()) - min(found.values()) <= 1

    world.until(even, "even")
    kept, lost = sorted(world.carrying())
    of_kept, of_lost = (world.address(int(gateway[1:])) for gateway in (kept, lost))
    with world.flows(64) as ways:
        world.until(lambda: all(ways()), "every flow had an answer")
        before = ways()
        assert Counter(way[0] for way in before).keys() == {of_kept, of_lost} and all(len(way) == 1 for way in before)
        world.silence(lost)
        world.until(lambda: lost not in world.carrying(), "replaced")
        world.until(lambda: all(way[-1] != of_lost for way in ways()), "its flows go on")
        others = [way for first, way in zip(before, ways(), strict=True) if first == [of_kept]]
        assert others == [[of_kept]] * len(others), "no other flow has moved"
    assert kept in world.carrying()


def test_without_the_kill_switch_the_isp_sees_what_has_no_gateway(world: Home) -> None:
    """So the capture sees what there is to see."""
    for n in range(1, world.gateways + 1):
        world.silence(f"g{n}")
    world.plan(kill_switch=False)
    world.start()
    world.until(lambda: "59989" in world.inside("home", "ip rule"), "there")
    world.capture.begin()
    world.noise("lan")
    world.until(lambda: world.capture.leaks.total() > 100, "seen")


def test_no_other_way_to_the_internet_is_taken(world: Home) -> None:
    """Whatever routes there are by another interface."""
    connected(world)
    for route in (f"{SERVER} via 192.0.3.1", "default via 192.0.3.1 metric 9", "2001:db8:113::80 via 2001:db8:3::1"):
        world.inside("home", f"ip route add {route} dev wlan0")
    other = Capture(lambda packet: (packet.text, CONTENT in packet.data))
    other.listen("isp-wlan")
    for where in ("home", "lan"):
        world.noise(where)
    world.until(lambda: world.refused() > 1000, "packets that had no way")
    assert other.leaks == Counter(), other.text
    other.close()


def test_containers_reach_the_internet_where_they_are_named_and_by_an_exit_only(world: Home) -> None:
    connected(world)
    world.capture.begin()
    assert world.fetch("container") == ""
    assert not any(CONTAINER in kind for kind in world.capture.seen), world.capture.text
    world.plan(**{"for": ["lan0", "self", "dev docker0"]})
    world.until(lambda: world.fetch("container").startswith("198.51.100."), "by a gateway")
    assert world.capture.leaks == Counter(), world.capture.text


def test_what_a_container_publishes_is_not_reached_through_an_exit(world: Home) -> None:
    gateway = connected(world)
    world.publish()
    ask = ["curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}"]

    def asked(space: str, target: str) -> str:
        command = ["ip", "netns", "exec", space, *ask, f"http://{target}:8080/"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert asked("lan", "192.168.10.1") == "200"
    assert asked(f"gw{gateway[1:]}", "10.64.0.2") == "000"


def test_when_the_last_exit_goes_nothing_of_it_stays(world: Home) -> None:
    """No open flow leaves with the address that it had in the tunnel, either."""
    connected(world)
    world.capture.begin()
    world.noise("lan")
    world.until(lambda: world.capture.seen["tunnel"] > 200, "flows within the tunnel")
    world.capture.begin()
    world.write({})
    world.until(lambda: "1170" not in world.inside("home", "ip rule"), "given back")
    world.until(lambda: "wg-vpn" not in world.inside("home", "ip -br link"), "taken down")
    assert not any("from 10.64." in kind for kind in world.capture.seen), world.capture.text
    for tool in ("iptables-save", "ip6tables-save"):
        world.until(lambda: "GITWAN-EXIT" not in world.inside("home", tool), "no chain left")  # noqa: B023 - at once
    assert "proto 117" not in world.inside("home", "ip route show table all")
