"""Whatever is taken away behind the agent's back comes back, and the status says what was repaired."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.dumps import ours
from tests.lab.twin import Twin, eventually, soon_nothing

pytestmark = [pytest.mark.lab, pytest.mark.root]

HOST = "ams-gw1"
WAYS = [
    ("home-pc", "10.10.0.100"),
    ("home-pc", "fd00:10::64"),
    ("ams-server", "10.20.0.100"),
    ("ams-server", "10.1.1.10"),
    ("ams-server", "fd00:20::64"),
    ("ams-server", "192.168.10.100"),
]


@dataclass(frozen=True)
class Damage:
    """What a shell does to a host, what shows it, and which kind of resource the status then names."""

    name: str
    command: str
    look: str
    kind: str


DAMAGES = [
    Damage("a route", "ip route del 192.168.10.0/24", "ip route show 192.168.10.0/24", "route"),
    Damage("an IPv6 route", "ip -6 route del fd00:20::/64", "ip -6 route show fd00:20::/64", "route"),
    Damage("all routes of a tunnel", "ip route flush dev wg-ireland-1", "ip route show dev wg-ireland-1", "route"),
    Damage(
        "a tunnel's address",
        "ip address del 10.255.0.1/32 dev wg-home-1",
        "ip -4 -br a show wg-home-1",
        "address",
    ),
    Damage("a LAN's address", "ip address del fd00:10::1/64 dev eno4", "ip -br a show eno4", "address"),
    Damage(
        "a peer",
        "wg set wg-home-1 peer $(wg show wg-home-1 peers) remove",
        "wg show wg-home-1 allowed-ips",
        "peer",
    ),
    Damage("a chain's rules", "iptables -F GITWAN-FORWARD", "iptables -S GITWAN-FORWARD", "firewall"),
    Damage("a jump", "ip6tables -D FORWARD -j GITWAN-FORWARD", "ip6tables -S FORWARD", "firewall"),
    Damage("a kernel parameter", "sysctl -w net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward", "sysctl"),
    Damage("an interface's state", "ip link set wg-home-1 down", "ip -br link show wg-home-1", "link"),
    Damage("a tunnel's interface", "ip link del wg-ireland-1", "ip -br link show wg-ireland-1", "link"),
    Damage("a tunnel of a group", "ip link del wg-fra-2", "ip -br link show wg-fra-2", "link"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.name for damage in DAMAGES])
def test_drift_is_repaired(twin: Twin, damage: Damage, measured: dict[str, list[tuple[str, str]]]) -> None:
    before, drift = ours(twin, HOST), twin.status(HOST)["drift"]
    shown = twin.attempt(HOST, damage.look)
    started = time.monotonic()
    twin.run(HOST, "sh", "-c", damage.command)
    eventually(lambda: twin.attempt(HOST, damage.look) == shown, what=f"{damage.name} comes back")
    seconds = time.monotonic() - started
    soon_nothing(lambda: _difference(before, ours(twin, HOST)))
    everything = time.monotonic() - started
    measured.setdefault("drift: from the damage to the repair", []).append(
        (damage.name, f"{seconds:.2f} s, everything {everything:.2f} s")
    )
    now = twin.status(HOST)["drift"]
    assert now["by_kind"].get(damage.kind, 0) > drift["by_kind"].get(damage.kind, 0)
    assert now["last"] and now["last_time"] > drift["last_time"]
    assert twin.reaches(*WAYS) == []


def _difference(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    return {name: (before[name], now[name]) for name in before if before[name] != now[name]}


def test_the_status_names_what_was_repaired_last(twin: Twin) -> None:
    twin.run(HOST, "ip route del 10.255.0.3")
    eventually(lambda: "10.255.0.3/32" in twin.status(HOST)["drift"]["last"], what="the route in the status")
    code, said = twin.gitwan(HOST, "status")
    assert code == 0
    assert "last repaired" in said and "route 10.255.0.3/32" in said
    assert "repaired route 10.255.0.3/32" in twin.log(HOST)


def test_all_is_well_afterwards(twin: Twin) -> None:
    assert {name: cell.text for name, cell in twin.measure().items() if not cell.ok} == {}
    assert all(twin.cycle(host)["report"]["operations"] == 0 for host in twin.hosts)
    assert "Traceback" not in twin.log(HOST)
