"""Nexthop objects: if several tunnels lead to the same networks, a group of them and its fallbacks."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.fabric.model import Fabric, GraphEdge, Node
from compiler.fabric.tunnel import End
from compiler.plan.firewall import FAMILIES
from schema.plan import Member, Nexthop, Resilient, Resource, Standby
from schema.plan.base import Family
from schema.plan.ranges import LINK_NEXTHOPS, NEXTHOPS_EACH

IDLE_TIMER, UNBALANCED_TIMER = 5, 20
"""Seconds. With the kernel's defaults (120 and 0), a recovered tunnel never gets its share while flows never rest."""
BUCKETS, FEW, MANY_BUCKETS = 1024, 32, 8192
"""The number of buckets of a group with up to FEW tunnels, and with more. Each tunnel has at least 32 buckets."""


def tiered(fabric: Fabric, node: Node) -> Iterator[list[GraphEdge]]:
    """The links of a host with several tunnels, each with its tiers: the first tier is used while it lives."""
    for bundle in fabric.units[node].bundles:
        edges = bundle.of(node) if bundle.kind == "link" else []
        if sum(len(edge.tunnels) for edge in edges) > 1:
            yield edges


def nexthops(tiers: list[GraphEdge], node: Node, family: Family) -> Iterator[Resource]:
    """Every tunnel's nexthop, and the group of those of the first tier."""
    for edge in tiers:
        for end in near_ends(edge, node):
            yield Nexthop(id=nexthop_id(end, family), family=family, dev=end.dev)
    ends = near_ends(tiers[0], node)
    resilient = _RESILIENT[len(ends) > FEW]
    yield Nexthop(id=group_id(ends, family), group=members(tiers[0], node, family), resilient=resilient)


def near_ends(edge: GraphEdge, node: Node) -> list[End]:
    """A host's own ends of the tunnels of a link."""
    return [tunnel.ends[node.name] for tunnel in edge.tunnels]


def members(edge: GraphEdge, node: Node, family: Family) -> tuple[Member, ...]:
    ends = near_ends(edge, node)
    weights = edge.weights or (1,) * len(ends)
    return tuple(Member(id=nexthop_id(end, family), weight=w) for end, w in zip(ends, weights, strict=True))


def standbys(fabric: Fabric, node: Node) -> Iterator[Standby]:
    """The fallback tiers of groups that lead to several gateways, for when the first gateway is out of reach."""
    for tiers in tiered(fabric, node):
        for family in FAMILIES if len(tiers) > 1 else ():
            later = tuple(members(edge, node, family) for edge in tiers[1:])
            yield Standby(id=group_id(near_ends(tiers[0], node), family), tiers=later)


def nexthop_id(end: End, family: str) -> int:
    """A stable number from the listening port: a tunnel uses offsets 0 and 1 of its port, a group that it begins 4 to
    7."""
    return LINK_NEXTHOPS.at(NEXTHOPS_EACH * end.port + (family == "inet6"))


_RESILIENT = {
    many: Resilient(buckets=MANY_BUCKETS if many else BUCKETS, idle_timer=IDLE_TIMER, unbalanced_timer=UNBALANCED_TIMER)
    for many in (False, True)
}


def group_id(ends: list[End], family: str) -> int:
    """A group with more buckets gets another number, because the kernel cannot change a group's type or buckets."""
    return nexthop_id(ends[0], family) + (6 if len(ends) > FEW else 4)
