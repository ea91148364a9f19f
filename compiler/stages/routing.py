"""Ways: for every host, which neighbour leads to which networks.

The way between two hosts has the fewest links; between ways of one length, the one that does without the link whose
name sorts last. Each link's length is 1 and a fraction of its own, a power of two, so no two ways are equally long:
the way there is the way back, which WireGuard's AllowedIPs need, since they also filter what comes in.

Hosts with one neighbour need no search: everything else lies behind it, and they share one summary. So the cost is the
hosts with several neighbours, times the fabric.
"""

from __future__ import annotations

from heapq import heappop, heappush

from compiler.fabric import Edge, Fabric, Node
from compiler.summary import condense, summarise
from schema.ip import Prefix

Ways = dict[Edge, list[Prefix]]
"""Edge -> what lies behind it, summarised."""


def find_ways(fabric: Fabric) -> None:
    """Warns of networks without a way between them; gives hosts with one neighbour their summary."""
    fabric.lengths = _lengths(fabric)
    components = _components(fabric)
    for nodes in components:
        everything = condense(summarise([*pool_prefixes(fabric), *(p for node in nodes for p in node.networks)]))
        for node in nodes:
            if len(node.edges) == 1:
                node.shared = (node.edges[0], everything)
    apart = sorted(min(node.name for node in nodes) for nodes in components if any(n.key and n.prefixes for n in nodes))
    if len(apart) > 1:
        node = fabric.nodes[apart[1]]
        message = f"no way between {apart[0]} and {', '.join(apart[1:4])}{' …' if len(apart) > 4 else ''}"
        fabric.warning("GW060", node.place(key=True), message, "add a link between them, if they should speak")


def ways(fabric: Fabric, node: Node) -> Ways:
    """What lies behind each of a host's edges."""
    # What it stands on itself is nearer, but IPv6 prefers the better metric to the connected route of equal length.
    connected = [address.network for lan in node.model.lans.values() for address in lan.addresses]
    own = summarise([*node.networks, *connected])
    if node.shared:
        edge, everything = node.shared
        return {edge: [prefix for prefix in everything if not any(network.covers(prefix) for network in own)]}
    behind: Ways = {}
    for target, edge in _first_edges(fabric, node).items():
        behind.setdefault(edge, []).extend(p for p in target.prefixes if p not in connected)
    return {edge: summarise(prefixes) for edge, prefixes in behind.items() if prefixes}


def pool_prefixes(fabric: Fabric) -> list[Prefix]:
    """The pools that something is allocated from."""
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


def _components(fabric: Fabric) -> list[list[Node]]:
    left, found = dict.fromkeys(fabric.nodes.values()), []
    while left:
        queue = [next(iter(left))]
        component = []
        del left[queue[0]]
        while queue:
            node = queue.pop()
            component.append(node)
            for edge in node.edges:
                other = edge.other(node)
                if other in left:
                    del left[other]
                    queue.append(other)
        found.append(component)
    return found


def _lengths(fabric: Fabric) -> dict[Edge, int]:
    """Edge -> its length. Edges that end at a host with one neighbour never compete, and need no fraction."""
    inner = sorted(
        (e for e in fabric.edges if len(e.a.edges) > 1 and len(e.b.edges) > 1), key=lambda e: (e.name, e.kind)
    )
    one = 1 << (len(inner) + 1)
    lengths = dict.fromkeys(fabric.edges, one)
    lengths.update((edge, one + (1 << rank)) for rank, edge in enumerate(inner))
    return lengths


def _first_edges(fabric: Fabric, start: Node) -> dict[Node, Edge]:
    """Node -> the edge by which the way to it leaves `start` (Dijkstra)."""
    lengths = fabric.lengths
    first: dict[Node, Edge] = {}
    best: dict[Node, int] = {start: 0}
    queue: list[tuple[int, str, Node]] = [(0, start.name, start)]
    while queue:
        length, _, node = heappop(queue)
        if length > best[node]:
            continue
        for edge in node.edges:
            other = edge.other(node)
            through = length + lengths[edge]
            if other not in best or through < best[other]:
                best[other] = through
                first[other] = edge if node is start else first[node]
                heappush(queue, (through, other.name, other))
    return first
