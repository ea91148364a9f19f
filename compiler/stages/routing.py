"""Computes, for every host, which networks are behind which neighbour.

The path between two units (hosts, or groups of gateways taken as one) has the fewest links. Of equal paths, the one
without the link whose name sorts last is chosen. A link's length is 1 plus a unique fraction, a power of two, so no two
paths are equally long, and traffic returns by the path that it came by. WireGuard's AllowedIPs need this, because they
also filter incoming packets.

All gateways of a group use the group's paths: each has its own tunnels to the next unit, and traffic that arrives at
one of them can leave from it, if necessary over the shared LAN.

Units with one neighbour need no search: everything else is behind it, and they share one summary. So the cost is the
number of units with several neighbours, times the size of the fabric.
"""

from __future__ import annotations

from heapq import heappop, heappush

from compiler.fabric.model import Bundle, Fabric, GraphEdge, Node, Unit
from compiler.fabric.summary import condense, summarise
from schema.ip import Prefix

PrefixesByEdge = dict[GraphEdge, list[Prefix]]
"""Edge -> the prefixes behind it, summarised. All edges of a host to the gateways of one group have the same."""


def prepare_routing(fabric: Fabric) -> None:
    """Warn of networks without a path between them, and give units with one neighbour their summary."""
    fabric.units = _units(fabric)
    _measure(fabric)
    components = _components(fabric)
    for units in components:
        networks = [p for unit in units for node in unit.nodes for p in node.networks]
        everything = condense(summarise([*pool_prefixes(fabric), *networks]))
        for unit in units:
            if len(unit.bundles) == 1:
                unit.shared = (unit.bundles[0], everything)
    nodes = [[node for unit in units for node in unit.nodes] for units in components]
    apart = sorted(min(node.name for node in part) for part in nodes if any(n.key and n.prefixes for n in part))
    if len(apart) > 1:
        node = fabric.nodes[apart[1]]
        message = f"no way between {apart[0]} and {', '.join(apart[1:4])}{' …' if len(apart) > 4 else ''}"
        fabric.warning("GW060", node.place(key=True), message, "add a link between them, if they should speak")


def prefixes_by_edge(fabric: Fabric, node: Node) -> PrefixesByEdge:
    """The prefixes behind each of a host's edges."""
    unit = fabric.units[node]
    # A connected network is nearer, but IPv6 prefers the better metric to the connected route of equal length.
    connected = {address.network for lan in node.model.lans.values() for address in lan.addresses}
    behind: PrefixesByEdge = {}
    if unit.shared:
        bundle, everything = unit.shared
        own = summarise(unit.networks)
        rest = [prefix for prefix in everything if not any(network.covers(prefix) for network in own)]
        for edge in _out(node, unit, bundle):
            behind.setdefault(edge, []).extend(rest)
    else:
        for target, bundle in _first_bundles(unit).items():
            for edge in _out(node, unit, bundle):
                behind.setdefault(edge, []).extend(p for p in target.prefixes if p not in connected)
    for other in unit.nodes:
        if other is not node:
            inner = [prefix for prefix in other.prefixes if prefix not in connected]
            behind.setdefault(between(node, other), []).extend(inner)
    return {edge: summarise(prefixes) for edge, prefixes in behind.items() if prefixes}


def between(node: Node, other: Node) -> GraphEdge:
    """The LAN between two gateways of a group."""
    return next(edge for edge in node.edges if edge.kind == "lan" and edge.other(node) is other)


def pool_prefixes(fabric: Fabric) -> list[Prefix]:
    """The pools that addresses are allocated from."""
    doc = fabric.desired.fabric
    if doc is None:
        return []
    pools = doc.model.pools
    found: tuple[Prefix, ...] = ()
    if len(fabric.nodes) > len(fabric.backbone):
        found += pools.links
    if fabric.backbone:
        found += pools.backbone
    if fabric.clients:
        found += pools.clients
    return list(found)


def _out(node: Node, unit: Unit, bundle: Bundle) -> list[GraphEdge]:
    """The edges through which a host sends into a bundle: its own, or those to a gateway of its group that has some."""
    own = bundle.of(node)
    if own:
        return own if bundle.kind == "link" else own[:1]
    return [between(node, next(other for other in unit.nodes if bundle.of(other)))]


def _units(fabric: Fabric) -> dict[Node, Unit]:
    """Every host's unit, with the bundles between units."""
    units: dict[Node, Unit] = {}
    for group in fabric.groups.values():
        nodes = [node for node in group.nodes if node.key]
        unit = Unit(group.nodes[0].name, nodes)
        units |= dict.fromkeys(nodes, unit)
    for node in fabric.nodes.values():
        if node not in units:
            units[node] = Unit(node.name, [node])
    lans: dict[tuple[str, str], Bundle] = {}
    for edge in fabric.edges:
        a, b = units[edge.a], units[edge.b]
        # A host without a key has no edges here.
        edges = [one for one in edge.bundle if one.a.key and one.b.key] if edge.kind == "link" else [edge]
        if a is b or edge is not edges[0]:
            continue
        if edge.kind == "lan" and (found := lans.get((a.name, b.name)) or lans.get((b.name, a.name))):
            found.edges.append(edge)
            continue
        bundle = Bundle(a, b, edges)
        if edge.kind == "lan":
            lans[a.name, b.name] = bundle
        a.bundles.append(bundle)
        b.bundles.append(bundle)
    return units


def _components(fabric: Fabric) -> list[list[Unit]]:
    left, found = dict.fromkeys(fabric.units[node] for node in fabric.nodes.values()), []
    while left:
        queue = [next(iter(left))]
        component = []
        del left[queue[0]]
        while queue:
            unit = queue.pop()
            component.append(unit)
            for bundle in unit.bundles:
                other = bundle.other(unit)
                if other in left:
                    del left[other]
                    queue.append(other)
        found.append(component)
    return found


def _measure(fabric: Fabric) -> None:
    """Set each bundle's length. A bundle to a unit with one neighbour does not compete: it needs no fraction."""
    bundles = dict.fromkeys(bundle for unit in fabric.units.values() for bundle in unit.bundles)
    inner = sorted(
        (b for b in bundles if len(b.a.bundles) > 1 and len(b.b.bundles) > 1), key=lambda b: (b.name, b.kind)
    )
    one = 1 << (len(inner) + 1)
    for bundle in bundles:
        bundle.length = one
    for rank, bundle in enumerate(inner):
        bundle.length = one + (1 << rank)


def _first_bundles(start: Unit) -> dict[Unit, Bundle]:
    """Unit -> the first bundle of the path from `start` (Dijkstra)."""
    first: dict[Unit, Bundle] = {}
    best: dict[Unit, int] = {start: 0}
    queue: list[tuple[int, str, Unit]] = [(0, start.name, start)]
    while queue:
        length, _, unit = heappop(queue)
        if length > best[unit]:
            continue
        for bundle in unit.bundles:
            other = bundle.other(unit)
            through = length + bundle.length
            if other not in best or through < best[other]:
                best[other] = through
                first[other] = bundle if unit is start else first[unit]
                heappush(queue, (through, other.name, other))
    return first
