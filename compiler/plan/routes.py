"""Routes to the networks behind tunnels and other hosts of a LAN, and guards against routing loops."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.fabric.model import Fabric, GraphEdge, Node, Segment
from compiler.fabric.summary import subtract
from compiler.plan.nexthops import group_id, near_ends, tiered
from compiler.stages.routing import PrefixesByEdge, pool_prefixes
from schema.desired import Region
from schema.ip import Interface, Prefix
from schema.plan import Resource, Route
from schema.plan.ranges import GUARD_METRIC


def routed(node: Node, prefixes: list[Prefix]) -> list[Prefix]:
    """The prefixes behind an edge that get routes."""
    # A VPC is no connected network: a summary that covers it would pull its traffic into the tunnel.
    vpc = list(node.doc.model.aws.cidr) if isinstance(node.doc.model, Region) else []
    return subtract(prefixes, vpc) if vpc else prefixes


def routes(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Resource]:
    choices = list(tiered(fabric, node))
    later = [edge for tiers in choices for edge in tiers[1:]]
    for edge, prefixes in behind.items():
        wanted = routed(node, prefixes)
        ends = near_ends(edge, node)
        if edge.kind == "lan":
            yield from by_lan(fabric, edge, node, wanted)
        elif not any(edge in tiers for tiers in choices):
            dev = ends[0].dev
            yield from (Route(dst=str(prefix), dev=dev) for prefix in wanted)
        elif edge not in later:
            group = {4: group_id(ends, "inet"), 6: group_id(ends, "inet6")}
            yield from (Route(dst=str(prefix), nhid=group[prefix.version]) for prefix in wanted)


def by_lan(fabric: Fabric, edge: GraphEdge, node: Node, prefixes: list[Prefix]) -> Iterator[Route]:
    """Routes to another host of the site; a host outside a group uses the group's virtual address."""
    vias = dict(edge.via[node.name])
    other = fabric.group(edge.other(node))
    for segment in other.segments if other and node not in other.nodes else ():
        for address in segment.virtual:
            if (own := vias.get(address.version)) and _together(segment, address, own):
                vias[address.version] = address.address
    for prefix in prefixes:
        if prefix.version in vias:
            yield Route(dst=str(prefix), dev=edge.dev[node.name][prefix.version], via=vias[prefix.version])


def _together(segment: Segment, virtual: Interface, own: str) -> bool:
    """Whether two addresses are in one network of a LAN."""
    host = Interface.parse(own).host
    return any(network.covers(virtual.host) and network.covers(host) for network in segment.networks)


def guards(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Resource]:
    """Refuse traffic that would loop between two hosts until its TTL ends (RFC 4632, 5.1).

    A host with one neighbour guards its own networks, in case their interface is down. A host with several guards the
    pools, because the requested address may not be in use.
    """
    if not behind:
        return
    unit = fabric.units[node]
    if unit.shared:
        elsewhere = behind.get(unit.shared[0].of(node)[0], []) if unit.shared[0].of(node) else []
        own = dict.fromkeys([*node.networks, *unit.networks] if len(unit.nodes) > 1 else node.networks)
        guarded = [lan for lan in own if any(prefix.covers(lan) for prefix in elsewhere)]
    else:
        taken = {prefix for prefixes in behind.values() for prefix in prefixes}
        guarded = [pool for pool in pool_prefixes(fabric) if pool not in taken]
    for prefix in guarded:
        yield Route(dst=str(prefix), type="unreachable", metric=GUARD_METRIC)
