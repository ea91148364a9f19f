"""The agent's instructions besides the resources: what to watch, and what to do when it dies or comes up."""

from __future__ import annotations

from collections.abc import Iterator

import schema.desired
from compiler.fabric.bonds import runtime_bonds
from compiler.fabric.model import Fabric, GraphEdge, Node
from compiler.plan.exits import runtime_exits
from compiler.plan.firewall import FAMILIES
from compiler.plan.gateways import services
from compiler.plan.nexthops import nexthop_id, standbys, tiered
from compiler.plan.routes import by_lan, routed
from compiler.stages.routing import PrefixesByEdge, between
from schema.plan import Lost, Nexthop, ProbeTarget, Route, Runtime, Takeover, Watch, WatchedTunnel


def runtime(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Runtime:
    """The instructions for the agent of this host."""
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
        takeovers=tuple(_takeovers(fabric, node, behind)) or None,
        watches=tuple(_watch(edge, node) for edge in node.edges if edge.watched) or None,
        standbys=tuple(standbys(fabric, node)) or None,
        lost=tuple(_lost(fabric, node, behind)) or None,
        bonds=runtime_bonds(node),
        exits=tuple(runtime_exits(fabric, node, behind)) or None,
    )


def _watch(edge: GraphEdge, node: Node) -> Watch:
    tunnels = []
    for tunnel in (*edge.tunnels, *edge.successors):
        end = tunnel.ends[node.name]
        assert end.peer is not None
        tunnels.append(WatchedTunnel(dev=end.dev, public_key=end.peer))
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
        backed=edge.grouped or None,
    )


def _probe(probe: schema.desired.Probe) -> ProbeTarget:
    if probe.ping:
        return ProbeTarget(kind="ping", target=probe.ping)
    if probe.tcp:
        return ProbeTarget(kind="tcp", target=probe.tcp)
    if probe.http:
        return ProbeTarget(kind="http", target=probe.http)
    assert probe.dns is not None
    return ProbeTarget(kind="dns", target=probe.dns, server=probe.server)


def _takeovers(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Takeover]:
    """How traffic moves to each tunnel of a new key once it has a session."""
    chosen = [edge for edges in tiered(fabric, node) for edge in edges]
    for edge in node.edges:
        pairs = list(zip(edge.tunnels, edge.successors, strict=False))
        for old, new in ((old.ends[node.name], new.ends[node.name]) for old, new in pairs):
            assert new.peer is not None
            moved: list[Nexthop | Route]
            if edge in chosen:
                moved = [Nexthop(id=nexthop_id(old, family), family=family, dev=new.dev) for family in FAMILIES]
            else:
                moved = [Route(dst=str(prefix), dev=new.dev) for prefix in routed(node, behind.get(edge, []))]
            yield Takeover(dev=new.dev, public_key=new.peer, resources=tuple(moved))


def _lost(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Lost]:
    """What a gateway does if all its tunnels of a link are dead: route through the next gateway of its group, if any. A
    gateway that has lost all its tunnels lowers its priority on the LAN."""
    unit = fabric.units[node]
    links = [edges for bundle in unit.bundles if bundle.kind == "link" and (edges := bundle.of(node))]
    if fabric.group(node) is None or not links:
        return
    # Only downwards by priority: otherwise two gateways could send the same traffic to each other.
    for other in unit.nodes[unit.nodes.index(node) + 1 :][:1]:
        for edges in links:
            routes = by_lan(fabric, between(node, other), node, routed(node, behind.get(edges[0], [])))
            yield Lost(devs=_devs(edges, node), resources=tuple(routes))
    usual = list(services(fabric, node, behind))
    if less := tuple(service for service in services(fabric, node, behind, lost=True) if service not in usual):
        yield Lost(devs=_devs([edge for edges in links for edge in edges], node), resources=less)


def _devs(edges: list[GraphEdge], node: Node) -> tuple[str, ...]:
    return tuple(sorted(t.ends[node.name].dev for edge in edges for t in (*edge.tunnels, *edge.successors)))
