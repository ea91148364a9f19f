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

from tests.contract.conftest import needs_root
from tests.drill import everything
from tests.lab.exiting import Home, home

pytestmark = [pytest.mark.lab, pytest.mark.root]
ELECTIONS = 50 if everything() else 5


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
    world.until(lambda: world.carried(), "connected")
    return world.carrying()[0]


def test_lan_and_host_reach_the_internet_by_a_gateway(world: Home) -> None:
    gateway = connected(world)
    seen = world.address(int(gateway[1:]))
    assert world.fetch("lan") == seen
    assert world.fetch("home") == seen
    shown = world.inside("home", "wg show wg-vpn")
    assert "fwmark: 0xea55" in shown and "latest handshake" in shown and "allowed ips: 0.0.0.0/0" in shown


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
    time.sleep(3)  # of noise, with no gateway there: what is shown is that nothing happens
    assert world.capture.leaks == Counter(), world.capture.text
    for n in range(1, world.gateways + 1):
        world.silence(f"g{n}", silent=False)
    world.until(world.carried, "connected", 60.0)
    for _ in range(ELECTIONS):
        before = world.carrying()
        assert world.order("next")["ok"]
        world.until(lambda: world.carrying() not in ([], before), "elected")  # noqa: B023 - called at once
    assert world.capture.leaks == Counter(), world.capture.text
    world.kill()
    assert world.carried()
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
    assert world.carried(gateway)
    world.start()
    world.until(lambda: world.carrying() == [gateway], "adopted")
    assert world.inside("home", "wg show wg-vpn latest-handshakes") == before
    assert world.carried(gateway)


def test_silence_is_noticed_and_another_gateway_carries_within_six_seconds(world: Home) -> None:
    gateway = connected(world)
    time.sleep(4)  # until there is a baseline
    world.silence(gateway)
    since = time.monotonic()
    world.until(world.carried, "carried again")
    took = time.monotonic() - since
    print(f"\nservice was back after {took:.1f} s of silence")
    assert world.carrying() != [gateway]
    assert took < 6.0 + 1.0  # one second of it is the probe of the test itself


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
    world.until(lambda: bool(world.fetch("lan")), "up")
    download = subprocess.Popen(
        ["ip", "netns", "exec", "lan", "curl", "-s", "-m", "40", "-o", "/dev/null", "-w", "%{size_download}",
         "http://203.0.113.80/slow"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(2)
    world.order("next")
    world.until(lambda: world.carrying() not in ([], [gateway]), "switched")
    (other,) = world.carrying()
    world.until(lambda: world.carried(other), "carried by the other")
    assert download.communicate()[0] == "2000000"


def test_where_flows_move_the_gap_is_short(world: Home) -> None:
    gateway = connected(world)
    pinging = subprocess.Popen(
        ["ip", "netns", "exec", "lan", "ping", "-D", "-i", "0.02", "-w", "8", "203.0.113.80"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(2)
    world.order("next")
    world.until(lambda: world.carrying() not in ([], [gateway]), "switched")
    lines = pinging.communicate()[0].splitlines()
    times = [float(line[1:].split("]")[0]) for line in lines if line.startswith("[") and "bytes from" in line]
    gap = max(after - before for before, after in pairwise(times))
    print(f"\nlongest gap between answers: {gap * 1000:.0f} ms")
    assert gap < 0.3


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
    before = set(world.carrying())
    lost = sorted(before)[0]
    world.silence(lost)
    world.until(lambda: lost not in world.carrying(), "replaced")
    (kept,) = before - {lost}
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


def test_when_the_last_exit_goes_nothing_of_it_stays(world: Home) -> None:
    """No open flow leaves with the address that it had in the tunnel, either."""
    connected(world)
    world.noise("lan")
    time.sleep(1)
    world.capture.begin()
    world.write({})
    world.until(lambda: "1170" not in world.inside("home", "ip rule"), "given back")
    world.until(lambda: "wg-vpn" not in world.inside("home", "ip -br link"), "taken down")
    assert not any("from 10.64." in kind for kind in world.capture.seen), world.capture.text
    for tool in ("iptables-save", "ip6tables-save"):
        world.until(lambda: "GITWAN-EXIT" not in world.inside("home", tool), "no chain left")  # noqa: B023 - at once
    assert "proto 117" not in world.inside("home", "ip route show table all")
