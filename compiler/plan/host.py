"""Fabric x host -> HostPlan: what the kernel of one host should hold."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.fabric.bonds import bond_options
from compiler.fabric.model import Fabric, GraphEdge, Node, address_of, own_key, texts
from compiler.fabric.mtu import OVERHEAD
from compiler.fabric.summary import summarise
from compiler.fabric.tunnel import End
from compiler.plan.exits import exits
from compiler.plan.firewall import FAMILIES, firewall
from compiler.plan.gateways import services
from compiler.plan.nexthops import nexthops, tiered
from compiler.plan.routes import guards, routes
from compiler.plan.runtime import runtime
from compiler.plan.site_exits import site_exits
from compiler.stages.ports import CLIENTS
from compiler.stages.routing import PrefixesByEdge, prefixes_by_edge
from schema.ip import Prefix
from schema.plan import (
    Address,
    HostPlan,
    Link,
    Peer,
    Resource,
    Route,
    SecretRef,
    Sysctl,
    Wireguard,
)
from schema.plan.ranges import TUNNELS

ROTATING_KEEPALIVE = 10
INNER_FIELDS = 0x37 | 0xDC0
"""Addresses, protocol and ports, of the outer and the inner packet (net/ipv4/sysctl_net_ipv4.c, ip-sysctl.rst)."""


def plan_host(fabric: Fabric, node: Node) -> HostPlan:
    """The plan of one host, which must have a key."""
    found: list[Resource] = []
    behind = prefixes_by_edge(fabric, node)
    found += _forwarding(fabric, node)
    found += _underlay(node)
    found += _lans(node)
    found += _links(fabric, node, behind)
    found += _backbone(node, behind)
    found += _clients(node)
    found += routes(fabric, node, behind)
    found += guards(fabric, node, behind)
    found += firewall(fabric, node)
    found += services(fabric, node, behind)
    found += exits(fabric, node, behind)
    found += site_exits(fabric, node)
    return HostPlan.of(node.name, found, runtime(fabric, node, behind))


_FORWARDING = (
    Sysctl(name="net/ipv4/ip_forward", value="1"),
    Sysctl(name="net/ipv6/conf/all/forwarding", value="1"),
)


def _forwarding(fabric: Fabric, node: Node) -> Iterator[Resource]:
    yield from _FORWARDING
    doc = fabric.desired.fabric
    if doc is not None and (any(tiered(fabric, node)) or any(way.model.use > 1 for way in node.exits)):
        yield from _flow_hash(doc.model.defaults.flow_hash)
    if node.model.underlay.addresses == "dhcp":
        # A router ignores router advertisements by default, and would lose its own IPv6.
        yield Sysctl(name=f"net/ipv6/conf/{node.model.underlay.dev}/accept_ra", value="2")


def _flow_hash(wanted: str) -> Iterator[Resource]:
    """Hash ports too: with addresses alone, two hosts would use a single tunnel or exit for all their flows.

    Never hash IPv6's flow label: senders change it within a connection (net.ipv6.auto_flowlabels).
    """
    for family in ("ipv4", "ipv6"):
        yield Sysctl(name=f"net/{family}/fib_multipath_hash_policy", value="1" if wanted == "l4" else "3")
        if wanted == "inner":
            yield Sysctl(name=f"net/{family}/fib_multipath_hash_fields", value=str(INNER_FIELDS))


def _underlay(node: Node) -> Iterator[Resource]:
    underlay = node.model.underlay
    if not underlay.managed or underlay.addresses == "dhcp":
        return
    if underlay.bond:
        options = bond_options(underlay.bond)
        yield Link(name=underlay.dev, type="bond", mtu=underlay.mtu, members=underlay.bond.members, bond=options)
    for address in underlay.addresses:
        yield Address(dev=underlay.dev, address=str(address))
    for gateway in underlay.gateway:
        dst = "0.0.0.0/0" if gateway.version == 4 else "::/0"
        yield Route(dst=dst, via=gateway.address, dev=underlay.dev)


def _lans(node: Node) -> Iterator[Resource]:
    for dev, lan in node.model.lans.items():
        for address in lan.addresses:
            yield Address(dev=dev, address=str(address))


def _device(
    node: Node, dev: str, port: int, mtu: int, key: SecretRef, local: str | None = None, leg: int | None = None
) -> Iterator[Resource]:
    yield Link(name=dev, type="wireguard", mtu=mtu, group=TUNNELS.first)
    # If the host's own traffic uses an exit, encrypted packets must bypass it.
    mark = node.marks.bypass if node.marks else None
    yield Wireguard(dev=dev, private_key=key, listen_port=port, fwmark=mark, leg=leg)
    # Loose: with one address on every tunnel, replies may come through another tunnel.
    yield Sysctl(name=f"net/ipv4/conf/{dev}/rp_filter", value="2")
    if 6 in node.address or local:
        # Our interfaces need IPv6 even if it is disabled for new interfaces.
        yield Sysctl(name=f"net/ipv6/conf/{dev}/disable_ipv6", value="0")
    if local:
        yield Address(dev=dev, address=f"{local}/64")
    for version, value in node.address.items():
        yield Address(dev=dev, address=address_of(version, value))


def _peer(edge: GraphEdge, node: Node, end: End, behind: list[Prefix]) -> Peer:
    assert end.peer is not None
    probed = [f"{edge.local(edge.other(node))}/128"] if edge.watched else []
    return Peer(
        dev=end.dev,
        public_key=end.peer,
        preshared_key=edge.psk,
        endpoint=end.endpoint,
        allowed_ips=tuple(sorted([*texts(behind), *probed])),
        # A succeeding tunnel must have a session, even without traffic.
        keepalive=edge.keepalive or (ROTATING_KEEPALIVE if edge.successors else 0),
        name=edge.other(node).name,
    )


def _links(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Resource]:
    for edge in node.edges:
        if edge.kind != "link":
            continue
        for tunnel in (*edge.tunnels, *edge.successors):
            end = tunnel.ends[node.name]
            local = edge.local(node) if edge.watched else None
            yield from _device(node, end.dev, end.port, edge.mtu, own_key(end.key), local, end.leg)
            yield _peer(edge, node, end, behind.get(edge, []))
    for tiers in tiered(fabric, node):
        for family in FAMILIES:
            yield from nexthops(tiers, node, family)


def _backbone(node: Node, behind: PrefixesByEdge) -> Iterator[Resource]:
    edges = [edge for edge in node.edges if edge.kind == "backbone"]
    if not edges:
        return
    ends = [(edge, tunnel.ends[node.name]) for edge in edges for tunnel in (*edge.tunnels, *edge.successors)]
    mtu = min(edge.mtu for edge in edges)
    for dev, end in {end.dev: end for _, end in ends}.items():
        yield from _device(node, dev, end.port, mtu, own_key(end.key))
    for edge, end in ends:
        yield _peer(edge, node, end, behind.get(edge, []))


def _clients(node: Node) -> Iterator[Resource]:
    if not node.clients:
        return
    key = node.clients_key or own_key(node.key)
    yield from _device(node, CLIENTS, node.ports[CLIENTS], node.model.underlay.mtu - OVERHEAD[6], key)
    for roamer in node.clients:
        yield Peer(
            dev=CLIENTS,
            public_key=roamer.model.public_key,
            allowed_ips=texts(roamer.prefixes),
            name=roamer.name,
        )
    for prefix in summarise(p for roamer in node.clients for p in roamer.prefixes):
        yield Route(dst=str(prefix), dev=CLIENTS)
