"""An independent reader: what our drivers made, pyroute2 (and for nexthops iproute2) reads back; what pyroute2 made,
our drivers call somebody else's. So our own packing is checked by somebody who did not write it."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2 import IPRoute, WireGuard

from reconciler.kinds.base import ALIAS
from reconciler.system.wg_key import public_key
from schema.plan import PROTOCOL, Address, Link, Nexthop, Peer, Route, Rule, SecretRef, Wireguard
from schema.plan.fingerprint import preshared_fingerprint
from schema.plan.nexthop import Member
from tests.contract.conftest import PRESHARED, PRIVATE, World
from tests.namespaces import ip

real = pytest.mark.parametrize("world", [pytest.param("real", marks=pytest.mark.root)], indirect=True)
kernel_wireguard = pytest.mark.parametrize(
    "world", [pytest.param("kernel_wireguard", marks=[pytest.mark.root, pytest.mark.kernel])], indirect=True
)
OTHER = 4
"""RTPROT_STATIC: what an administrator's routes carry."""

FOUR = Address(dev="eth0", address="10.0.0.1/24")
SIX = Address(dev="eth0", address="fd00::1/64")
BRIDGE = Link(name="br0", type="bridge", mtu=1400, group=117, members=("eth1",))
ROUTES = (
    Route(dst="10.5.0.0/16", dev="eth0"),
    Route(dst="10.6.0.0/16", dev="eth0", via="10.0.0.9", src="10.0.0.1", metric=5),
    Route(dst="10.9.0.0/16", type="blackhole"),
    Route(dst="0.0.0.0/0", dev="eth0", table=70000),
    Route(dst="fd05::/32", dev="eth0", via="fd00::9"),
    Route(dst="fd08::/32", type="unreachable", table=1000),
)
RULES = (
    Rule(family="inet", priority=100, table=1000, fwmark=0x75, fwmask=0xFF),
    Rule(family="inet", priority=103, table=70000, src="10.0.0.0/8", invert=True),
    Rule(family="inet6", priority=101, table=1000, src="fd00::/64", dst="fd01::/64", iif="eth0", oif="eth1"),
    Rule(family="inet6", priority=102, table=254, suppress_prefixlength=0),
)
KEY = SecretRef(secret="wan-key", fingerprint=public_key(PRIVATE))
TYPES = {1: "unicast", 6: "blackhole", 7: "unreachable"}


@pytest.fixture
def reader(world: World) -> Iterator[IPRoute]:
    """pyroute2 in the same namespace, its socket closed at the end."""
    with IPRoute() as found:
        yield found


def _names(reader: IPRoute) -> dict[int, str]:
    return {link["index"]: link.get_attr("IFLA_IFNAME") for link in reader.get_links()}


def _read_addresses(reader: IPRoute) -> dict[Address, int | None]:
    names = _names(reader)
    return {
        Address(
            dev=names[one["index"]],
            address=f"{one.get_attr('IFA_LOCAL') or one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}",
        ): one.get_attr("IFA_PROTO")
        for one in reader.get_addr()
    }


def _read_routes(reader: IPRoute) -> dict[Route, int]:
    """Routes as pyroute2 has them, in our words, and their protocol; without the kernel's own."""
    names = _names(reader)
    found = {}
    for family in (AF_INET, AF_INET6):
        for one in reader.get_routes(family=family):
            if one["proto"] == 2 or one["type"] not in TYPES:
                continue
            get = one.get_attr
            way = one["type"] == 1
            everything = "0.0.0.0" if family == AF_INET else "::"
            route = Route.model_construct(
                None, kind="route", table=get("RTA_TABLE"), dst=f"{get('RTA_DST') or everything}/{one['dst_len']}",
                metric=get("RTA_PRIORITY") or 0, type=TYPES[one["type"]],
                nhid=None, dev=names[get("RTA_OIF")] if way else None, via=get("RTA_GATEWAY") if way else None,
                src=get("RTA_PREFSRC"),
            )  # fmt: skip
            found[route] = one["proto"]
    return found


def _read_rules(reader: IPRoute) -> dict[Rule, int | None]:
    found = {}
    for family, name in ((AF_INET, "inet"), (AF_INET6, "inet6")):
        for one in reader.get_rules(family=family):
            found[_rule(one, name)] = one.get_attr("FRA_PROTOCOL")
    return found


def _rule(one: Any, family: str) -> Rule:
    get, none = one.get_attr, 0xFFFFFFFF
    suppress, mask = get("FRA_SUPPRESS_PREFIXLEN"), get("FRA_FWMASK")
    return Rule.model_construct(
        None, kind="rule", family=family, priority=get("FRA_PRIORITY") or 0, table=get("FRA_TABLE"),
        src=f"{get('FRA_SRC')}/{one['src_len']}" if get("FRA_SRC") else None,
        dst=f"{get('FRA_DST')}/{one['dst_len']}" if get("FRA_DST") else None,
        iif=get("FRA_IIFNAME"), oif=get("FRA_OIFNAME"), fwmark=get("FRA_FWMARK"),
        fwmask=None if mask == none else mask, invert=bool(one["flags"] & 2),
        suppress_prefixlength=None if suppress == none else suppress,
    )  # fmt: skip


@real
def test_a_link_of_ours_is_read_with_its_marker_group_mtu_and_members(world: World, reader: IPRoute) -> None:
    world.made(BRIDGE)
    (bridge,) = reader.get_links(ifname="br0")
    assert bridge.get_attr("IFLA_IFALIAS") == ALIAS
    assert bridge.get_attr("IFLA_GROUP") == 117
    assert bridge.get_attr("IFLA_MTU") == 1400
    assert bridge.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
    assert bridge["state"] == "up"
    (member,) = reader.get_links(ifname="eth1")
    assert member.get_attr("IFLA_MASTER") == bridge["index"]


@real
def test_addresses_of_ours_are_read_equal_and_carry_our_protocol(world: World, reader: IPRoute) -> None:
    world.made(FOUR, SIX)
    assert {address for address, proto in _read_addresses(reader).items() if proto == PROTOCOL} == {FOUR, SIX}


@real
def test_routes_of_ours_are_read_equal_and_carry_our_protocol(world: World, reader: IPRoute) -> None:
    world.made(FOUR, SIX, *ROUTES)
    found = _read_routes(reader)
    assert {route for route, protocol in found.items() if protocol == PROTOCOL} == set(ROUTES)
    world.delete(*ROUTES[:3])
    found = _read_routes(reader)
    assert {route for route, protocol in found.items() if protocol == PROTOCOL} == set(ROUTES[3:])


@real
def test_nexthops_of_ours_and_routes_over_them_are_read_by_iproute2(world: World) -> None:
    """pyroute2 knows neither nexthop objects nor their numbers in routes."""
    ways = (Nexthop(id=1, family="inet", dev="eth0"), Nexthop(id=2, family="inet", dev="eth0", via="10.0.0.2"))
    group = Nexthop(id=10, group=(Member(id=1), Member(id=2, weight=3)))
    world.made(FOUR, *ways, group, Route(dst="10.8.0.0/16", nhid=10))
    first, second, both = json.loads(ip("-j -N nexthop show"))
    assert (first["dev"], second["dev"], second["gateway"]) == ("eth0", "eth0", "10.0.0.2")
    assert [(member["id"], member.get("weight", 1)) for member in both["group"]] == [(1, 1), (2, 3)]
    assert {one["protocol"] for one in (first, second, both)} == {str(PROTOCOL)}
    (route,) = json.loads(ip("-j -N route show 10.8.0.0/16"))
    assert (route["nhid"], route["protocol"], route["metric"]) == (10, str(PROTOCOL), 117)


@real
def test_rules_of_ours_are_read_equal_and_carry_our_protocol(world: World, reader: IPRoute) -> None:
    world.made(*RULES)
    assert {rule for rule, protocol in _read_rules(reader).items() if protocol == PROTOCOL} == set(RULES)


@real
def test_what_pyroute2_made_is_observed_equal_and_as_foreign(world: World, reader: IPRoute) -> None:
    (index,) = reader.link_lookup(ifname="eth0")
    reader.addr("add", index=index, address="10.0.0.1", prefixlen=24)
    reader.addr("add", index=index, address="fd00::1", prefixlen=64)
    reader.route("add", dst="10.5.0.0/16", oif=index, priority=117, proto=OTHER)
    reader.route("add", dst="fd05::/32", gateway="fd00::9", oif=index, priority=117, proto=OTHER)
    reader.route("add", dst="10.9.0.0/16", type="blackhole", priority=117, proto=OTHER)
    reader.rule("add", priority=100, table=1000, fwmark=0x75, fwmask=0xFF, protocol=OTHER)
    reader.link("add", ifname="br0", kind="bridge", mtu=1400, group=117)
    routes = {ROUTES[0], ROUTES[4], ROUTES[2]}
    assert {FOUR, SIX} <= world.foreign("address")
    assert routes <= world.foreign("route")
    assert RULES[0] in world.foreign("rule")
    assert BRIDGE.model_copy(update={"members": ()}) in world.foreign("link")
    for kind in ("address", "route", "rule", "link"):
        assert world.ours(kind) == set()


@real
def test_only_the_protocol_tells_ours_from_theirs(world: World, reader: IPRoute) -> None:
    (index,) = reader.link_lookup(ifname="eth0")
    reader.route("add", dst="10.5.0.0/16", oif=index, priority=117, proto=PROTOCOL)
    reader.rule("add", priority=100, table=1000, fwmark=0x75, fwmask=0xFF, protocol=PROTOCOL)
    assert world.ours("route") == {ROUTES[0]}
    assert world.ours("rule") == {RULES[0]}


@kernel_wireguard
def test_a_wireguard_device_and_its_peers_are_read_equal(world: World) -> None:
    device = Wireguard(dev="wg0", private_key=KEY, listen_port=51820, fwmark=0x75)
    peers = [_peer(1, endpoint="192.0.2.1:51820", keepalive=25), _peer(2, endpoint="[2001:db8::6]:1234"), _peer(3)]
    psk = SecretRef(secret="psk", fingerprint=preshared_fingerprint(PRESHARED))
    peers[2] = peers[2].model_copy(update={"preshared_key": psk})
    world.made(Link(name="wg0", type="wireguard", mtu=1420), device, *peers)
    with WireGuard() as wireguard:
        messages = wireguard.info("wg0")
    assert messages[0].get_attr("WGDEVICE_A_LISTEN_PORT") == 51820
    assert messages[0].get_attr("WGDEVICE_A_FWMARK") == 0x75
    assert messages[0].get_attr("WGDEVICE_A_PUBLIC_KEY").decode() == device.private_key.fingerprint
    # One device may take several messages, and one peer too.
    read = [peer for message in messages for peer in message.get_attr("WGDEVICE_A_PEERS") or ()]
    assert {peer.get_attr("WGPEER_A_PUBLIC_KEY").decode(): _words(peer) for peer in read} == {
        peer.public_key: (peer.allowed_ips, peer.endpoint, peer.keepalive, peer.preshared_key is not None)
        for peer in peers
    }


def _peer(number: int, **fields: object) -> Peer:
    public = b64encode(number.to_bytes(31, "big") + b"\0").decode()
    values = {"dev": "wg0", "public_key": public, "allowed_ips": (f"10.{number}.0.0/24", f"fd00:{number}::/32")}
    return Peer.model_validate(values | fields)


def _words(peer: Any) -> tuple[object, ...]:
    ips = tuple(sorted(one["addr"] for one in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ()))
    endpoint = peer.get_attr("WGPEER_A_ENDPOINT")
    where = None
    if endpoint:
        address = endpoint["addr"]
        where = f"[{address}]:{endpoint['port']}" if ":" in address else f"{address}:{endpoint['port']}"
    key = peer.get_attr("WGPEER_A_PRESHARED_KEY")
    shared = bool(key) and any(b64decode(key))
    return ips, where, peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"), shared
