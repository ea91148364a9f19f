"""Fabric x host -> HostPlan: what the kernel of one host should hold."""

from __future__ import annotations

from collections.abc import Iterator

import schema.desired
from compiler.bonds import bond_options, runtime_bonds
from compiler.fabric import Edge, End, Fabric, Node, address_of, texts
from compiler.firewall import FAMILIES, firewall
from compiler.gateways import services
from compiler.stages.links import OVERHEAD
from compiler.stages.ports import CLIENTS
from compiler.stages.routing import pool_prefixes, ways
from compiler.summary import subtract, summarise
from schema.desired import Region
from schema.desired.secret import RESERVED
from schema.ip import Prefix
from schema.plan import (
    Address,
    HostPlan,
    Link,
    Member,
    Nexthop,
    Peer,
    Probe,
    Resilient,
    Resource,
    Route,
    Runtime,
    SecretRef,
    Sysctl,
    Takeover,
    Tunnel,
    Watch,
    Wireguard,
)

GROUP = 117
"""The interface group of all our tunnels; firewall rules name them by it."""
ROTATING_KEEPALIVE = 10
GUARD_METRIC = 1117
"""Worse than any route that leads somewhere, so a guard only catches what nothing else takes."""
NEXTHOP_BASE = 117_000_000
"""Nexthop numbers are ours by range and stable by port: BASE + 10 x listening port + 0..7."""
IDLE_TIMER, UNBALANCED_TIMER = 5, 20
"""Seconds. The kernel's own (120 and 0) never give a tunnel that is back its share while flows never rest."""
BUCKETS, FEW, MANY_BUCKETS = 1024, 32, 8192
"""How many buckets a group has, with up to so many tunnels and with more: each has 32 of them or more."""
INNER_FIELDS = 0x37 | 0xDC0
"""Addresses, protocol and ports, of the packet and of one within it (net/ipv4/sysctl_net_ipv4.c, ip-sysctl.rst)."""


def plan_host(fabric: Fabric, node: Node) -> HostPlan:
    """The plan of one host. It must have a key."""
    found: list[Resource] = []
    behind = ways(fabric, node)
    found += _forwarding(fabric, node)
    found += _underlay(node)
    found += _lans(node)
    found += _links(node, behind)
    found += _backbone(node, behind)
    found += _clients(node)
    found += _routes(node, behind)
    found += _guards(fabric, node, behind)
    found += firewall(fabric, node)
    found += services(fabric, node, behind)
    return HostPlan.of(node.name, found, _runtime(fabric, node, tuple(_takeovers(node, behind))))


def _runtime(fabric: Fabric, node: Node, takeovers: tuple[Takeover, ...]) -> Runtime:
    """What the agent of this host should know beside its resources."""
    doc = fabric.desired.fabric
    if doc is None:
        return Runtime()
    probes = tuple(
        _probe(probe)
        for probe in doc.model.probes
        if not probe.from_ or node in [fabric.resolve(name) for name in probe.from_]
    )
    return Runtime(
        deadline=doc.model.deadline,
        probes=probes or None,
        takeovers=takeovers or None,
        watches=tuple(_watch(edge, node) for edge in node.edges if edge.watched) or None,
        bonds=runtime_bonds(node),
    )


def _watch(edge: Edge, node: Node) -> Watch:
    tunnels = []
    for tunnel in (*edge.tunnels, *edge.successors):
        end = tunnel.ends[node.name]
        assert end.peer is not None
        tunnels.append(Tunnel(dev=end.dev, public_key=end.peer))
    health = edge.health
    return Watch(
        name=edge.name,
        source=edge.local(node),
        target=edge.local(edge.other(node)),
        tunnels=tuple(tunnels),
        size=edge.mtu,
        interval=health.interval,
        misses=health.misses,
        loss=health.loss,
        hold=health.hold,
    )


def _probe(probe: schema.desired.Probe) -> Probe:
    if probe.ping:
        return Probe(kind="ping", target=probe.ping)
    if probe.tcp:
        return Probe(kind="tcp", target=probe.tcp)
    if probe.http:
        return Probe(kind="http", target=probe.http)
    assert probe.dns is not None
    return Probe(kind="dns", target=probe.dns, server=probe.server)


_FORWARDING = (
    Sysctl(name="net/ipv4/ip_forward", value="1"),
    Sysctl(name="net/ipv6/conf/all/forwarding", value="1"),
)


def _forwarding(fabric: Fabric, node: Node) -> Iterator[Resource]:
    yield from _FORWARDING
    doc = fabric.desired.fabric
    if doc is not None and any(len(edge.tunnels) > 1 for edge in node.edges):
        yield from _flow_hash(doc.model.defaults.flow_hash)
    if node.model.underlay.addresses == "dhcp":
        # A router ignores router advertisements unless told otherwise, and would lose its own IPv6.
        yield Sysctl(name=f"net/ipv6/conf/{node.model.underlay.dev}/accept_ra", value="2")


def _flow_hash(wanted: str) -> Iterator[Resource]:
    """Hash ports too: by addresses alone, two hosts that speak to each other would use one tunnel.

    Never IPv6's flow label: senders change it within a connection (net.ipv6.auto_flowlabels).
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


def _own(key: str | None) -> SecretRef:
    assert key is not None
    return SecretRef(secret=RESERVED, fingerprint=key)


def _device(
    node: Node, dev: str, port: int, mtu: int, key: SecretRef, local: str | None = None, leg: int | None = None
) -> Iterator[Resource]:
    yield Link(name=dev, type="wireguard", mtu=mtu, group=GROUP)
    yield Wireguard(dev=dev, private_key=key, listen_port=port, leg=leg)
    # Loose: with one address on every tunnel, the way back may be another tunnel than the way here.
    yield Sysctl(name=f"net/ipv4/conf/{dev}/rp_filter", value="2")
    if 6 in node.address or local:
        # Where IPv6 is switched off for new interfaces, ours need it all the same.
        yield Sysctl(name=f"net/ipv6/conf/{dev}/disable_ipv6", value="0")
    if local:
        yield Address(dev=dev, address=f"{local}/64")
    for version, value in node.address.items():
        yield Address(dev=dev, address=address_of(version, value))


def _peer(edge: Edge, node: Node, end: End, behind: list[Prefix]) -> Peer:
    assert end.peer is not None
    probed = [f"{edge.local(edge.other(node))}/128"] if edge.watched else []
    return Peer(
        dev=end.dev,
        public_key=end.peer,
        preshared_key=edge.psk,
        endpoint=end.endpoint,
        allowed_ips=tuple(sorted([*texts(behind), *probed])),
        # A tunnel that is to take over has to have a session, whether or not anybody speaks.
        keepalive=edge.keepalive or (ROTATING_KEEPALIVE if edge.successors else 0),
        name=edge.other(node).name,
    )


def _links(node: Node, behind: dict[Edge, list[Prefix]]) -> Iterator[Resource]:
    for edge in node.edges:
        if edge.kind != "link":
            continue
        for tunnel in (*edge.tunnels, *edge.successors):
            end = tunnel.ends[node.name]
            local = edge.local(node) if edge.watched else None
            yield from _device(node, end.dev, end.port, edge.mtu, _own(end.key), local, end.leg)
            yield _peer(edge, node, end, behind.get(edge, []))
        if len(edge.tunnels) > 1:
            yield from _nexthops(edge, node)


def _nexthops(edge: Edge, node: Node) -> Iterator[Resource]:
    ends = [tunnel.ends[node.name] for tunnel in edge.tunnels]
    for family in FAMILIES:
        for end in ends:
            yield Nexthop(id=_nexthop_id(end, family), family=family, dev=end.dev)
        weights = edge.weights or (1,) * len(ends)
        members = tuple(Member(id=_nexthop_id(end, family), weight=w) for end, w in zip(ends, weights, strict=True))
        yield Nexthop(id=_group_id(ends, family), group=members, resilient=_RESILIENT[len(ends) > FEW])


def _nexthop_id(end: End, family: str) -> int:
    return NEXTHOP_BASE + 10 * end.port + (family == "inet6")


_RESILIENT = {
    many: Resilient(buckets=MANY_BUCKETS if many else BUCKETS, idle_timer=IDLE_TIMER, unbalanced_timer=UNBALANCED_TIMER)
    for many in (False, True)
}


def _group_id(ends: list[End], family: str) -> int:
    """A group with more buckets is another group: the kernel changes neither type nor buckets of one."""
    return _nexthop_id(ends[0], family) + (6 if len(ends) > FEW else 4)


def _backbone(node: Node, behind: dict[Edge, list[Prefix]]) -> Iterator[Resource]:
    edges = [edge for edge in node.edges if edge.kind == "backbone"]
    if not edges:
        return
    ends = [(edge, tunnel.ends[node.name]) for edge in edges for tunnel in (*edge.tunnels, *edge.successors)]
    mtu = min(edge.mtu for edge in edges)
    for dev, end in {end.dev: end for _, end in ends}.items():
        yield from _device(node, dev, end.port, mtu, _own(end.key))
    for edge, end in ends:
        yield _peer(edge, node, end, behind.get(edge, []))


def _clients(node: Node) -> Iterator[Resource]:
    if not node.clients:
        return
    key = node.clients_key or _own(node.key)
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


def _takeovers(node: Node, behind: dict[Edge, list[Prefix]]) -> Iterator[Takeover]:
    """How traffic moves to the tunnels of a new key, one by one, when they have a session."""
    for edge in node.edges:
        pairs = list(zip(edge.tunnels, edge.successors, strict=False))
        for old, new in ((old.ends[node.name], new.ends[node.name]) for old, new in pairs):
            assert new.peer is not None
            moved: list[Nexthop | Route]
            if len(pairs) > 1:
                moved = [Nexthop(id=_nexthop_id(old, family), family=family, dev=new.dev) for family in FAMILIES]
            else:
                moved = [Route(dst=str(prefix), dev=new.dev) for prefix in _routed(node, behind.get(edge, []))]
            yield Takeover(dev=new.dev, public_key=new.peer, resources=tuple(moved))


def _routed(node: Node, prefixes: list[Prefix]) -> list[Prefix]:
    """What routes lead to of all that lies behind an edge."""
    # A VPC is no connected network: a summary that covers it would draw its traffic into the tunnel.
    vpc = list(node.doc.model.aws.cidr) if isinstance(node.doc.model, Region) else []
    return subtract(prefixes, vpc) if vpc else prefixes


def _routes(node: Node, behind: dict[Edge, list[Prefix]]) -> Iterator[Resource]:
    for edge, prefixes in behind.items():
        wanted = _routed(node, prefixes)
        if edge.kind == "lan":
            dev, vias = edge.dev[node.name], edge.via[node.name]
            yield from (Route(dst=str(p), dev=dev, via=vias[p.version]) for p in wanted if p.version in vias)
            continue
        ends = [tunnel.ends[node.name] for tunnel in edge.tunnels]
        if len(ends) == 1:
            dev = ends[0].dev
            yield from (Route(dst=str(prefix), dev=dev) for prefix in wanted)
        else:
            group = {4: _group_id(ends, "inet"), 6: _group_id(ends, "inet6")}
            yield from (Route(dst=str(prefix), nhid=group[prefix.version]) for prefix in wanted)


def _guards(fabric: Fabric, node: Node, behind: dict[Edge, list[Prefix]]) -> Iterator[Resource]:
    """What would circle between two hosts until its TTL ends is refused instead (RFC 4632, 5.1).

    A host with one neighbour guards its own networks, should their interface be down; one with several the pools, of
    which nobody may have the address that is asked for.
    """
    if not behind:
        return
    if node.shared:
        guarded = [lan for lan in node.networks if any(prefix.covers(lan) for prefix in behind[node.shared[0]])]
    else:
        taken = {prefix for prefixes in behind.values() for prefix in prefixes}
        guarded = [pool for pool in pool_prefixes(fabric) if pool not in taken]
    for prefix in guarded:
        yield Route(dst=str(prefix), type="unreachable", metric=GUARD_METRIC)
