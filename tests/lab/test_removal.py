"""A change does what it was announced to do, and no more: no packet is lost that nobody spoke of. In their order."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

import pytest

from compiler.review.diff import PlanDiff, diff_plans
from lab.drive import compiled
from schema.plan import Disruption
from tests.lab.dumps import PeerState, devices, our_links, peers, routes
from tests.lab.edits import add_client, add_subnet, more_tunnels, remove_home
from tests.lab.twin import Twin, unharmed

pytestmark = [pytest.mark.lab, pytest.mark.root]

WAYS = [
    ("fra-server", "10.10.0.100"),  # the link of several tunnels
    ("ams-server", "fd00:1:0:1::a"),  # the link to a region
    ("singapore-vm", "10.20.0.100"),  # over the backbone and two links
    ("laptop", "10.2.1.10"),  # a client, over the backbone
]
HOME = list(map(ip_network, ("192.168.10.0/24", "fd00:192::/64", "10.255.0.3", "fd00:255::3")))
Network = IPv4Network | IPv6Network
Edit = Callable[[Twin], None]


@dataclass(frozen=True)
class Sessions:
    """All of WireGuard on one host, and its links with their indexes."""

    devices: dict[str, tuple[str, ...]]
    peers: dict[tuple[str, str], PeerState]
    links: dict[str, int]
    routes: set[tuple[str, ...]]


def sessions(twin: Twin) -> dict[str, Sessions]:
    return {
        host: Sessions(devices(twin, host), peers(twin, host), our_links(twin, host), routes(twin, host))
        for host in twin.hosts
    }


def assert_kept(before: Sessions, after: Sessions, gone: Collection[str] = ()) -> None:
    """Every session goes on that is on no device that is gone: same device, port and keys, counters that only grow."""
    assert {n: d for n, d in before.devices.items() if n not in gone}.items() <= after.devices.items()
    assert {n: i for n, i in before.links.items() if n not in gone}.items() <= after.links.items()
    for (device, key), old in before.peers.items():
        if device in gone:
            continue
        new = after.peers[device, key]
        assert new.handshake >= old.handshake > 0, (device, "the session began anew")
        assert new.rx >= old.rx and new.tx >= old.tx, (device, "the counters began anew")
        assert (new.endpoint, new.keepalive) == (old.endpoint, old.keepalive)


def by_way(host: Sessions) -> dict[tuple[str, ...], set[str]]:
    """Table, type, metric and next hop -> the prefixes that go there."""
    found: dict[tuple[str, ...], set[str]] = {}
    for prefix, *way in host.routes:
        found.setdefault(tuple(way), set()).add(prefix)
    return found


def assert_without_home(before: Collection[str], after: Collection[str], unreachable: bool = False) -> None:
    """The same addresses as before but for those of home, however they are summarised."""
    old, new = list(map(ip_network, before)), list(map(ip_network, after))
    gone = [home for home in HOME if any(home.version == p.version and home.subnet_of(p) for p in old)]  # type: ignore[arg-type]
    assert collapsed([*new, *gone]) == collapsed(old)
    assert unreachable or not any(home.overlaps(p) for home in gone for p in new if home.version == p.version)


def collapsed(networks: list[Network]) -> set[Network]:
    return {p for v in (4, 6) for p in collapse_addresses(n for n in networks if n.version == v)}  # type: ignore[type-var]


def announced(twin: Twin, edit: Edit) -> PlanDiff:
    """What the plan diff says of an edit of the work tree."""
    before = compiled(twin.folder).plans()
    edit(twin)
    return diff_plans(before, compiled(twin.folder).plans())


def assert_harmless(twin: Twin, edit: Edit, most: Disruption) -> None:
    """An edit announced as no more than `most` loses no packet and resets no session."""
    before = sessions(twin)
    announcement = announced(twin, edit)
    assert announcement.hosts and announcement.disruption == most
    with unharmed(twin, *WAYS):
        twin.converged(twin.push(f"{edit.__name__}, announced as {most.text}"))
    after = sessions(twin)
    for host, old in before.items():
        assert_kept(old, after[host])


def test_a_new_subnet_loses_no_packet_and_resets_no_session(twin: Twin) -> None:
    assert_harmless(twin, add_subnet, Disruption.NONE)


def test_a_new_tunnel_reorders_flows_and_loses_no_packet(twin: Twin) -> None:
    assert_harmless(twin, more_tunnels, Disruption.REORDERS)


def test_removing_a_site_removes_exactly_what_was_its_and_resets_nothing_else(twin: Twin) -> None:
    twin.settle()
    before = sessions(twin)
    announcement = announced(twin, remove_home)
    assert [host.host for host in announcement.hosts if host.gone] == ["nas"]
    rest = [host for host in twin.hosts if host != "nas"]
    with unharmed(twin, *WAYS):
        twin.converged(twin.push("give up home"), rest)
    after = sessions(twin)
    for host in rest:
        gone = {"wg-home-1"} if host == "ams-gw1" else set()
        assert_kept(before[host], after[host], gone)
        assert before[host].links.keys() - after[host].links.keys() == gone
        assert before[host].peers.keys() - after[host].peers.keys() == {k for k in before[host].peers if k[0] in gone}
        assert after[host].links.keys() <= before[host].links.keys()
        for way, prefixes in by_way(before[host]).items():
            assert_without_home(prefixes, by_way(after[host]).get(way, set()), "unreachable" in way)
        assert by_way(after[host]).keys() <= by_way(before[host]).keys()
        for key, new in after[host].peers.items():
            assert_without_home(before[host].peers[key].allowed, new.allowed)


def test_a_new_client_loses_no_packet_and_resets_no_session(twin: Twin) -> None:
    twin.bring_back(twin.first)
    twin.settle()
    assert_harmless(twin, add_client, Disruption.NONE)
