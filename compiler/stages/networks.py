"""Networks: their owners, and that no two overlap."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.fabric.model import Fabric, GraphEdge, Node
from schema.desired import Region
from schema.ip import Interface, Prefix, is_private
from schema.problem import Place


@dataclass(frozen=True, slots=True)
class _Claim:
    prefix: Prefix
    site: str
    what: str
    place: Place | None
    node: Node | None
    loc: tuple[str | int, ...]
    pool: bool = False

    def where(self) -> Place:
        return self.place or (self.node.place(*self.loc) if self.node else Place(""))


def assign_networks(fabric: Fabric) -> None:
    """Give each node its networks; a network on several hosts of a site belongs to the first of them."""
    claims = [*_pools(fabric)]
    for site, nodes in sorted(fabric.sites.items()):
        claims += _site_claims(fabric, site, nodes)
    claims.sort(key=lambda c: (c.prefix, c.site, c.what))
    open_claims: list[_Claim] = []
    for claim in claims:
        while open_claims and not open_claims[-1].prefix.covers(claim.prefix):
            open_claims.pop()
        if open_claims:
            _clash(fabric, open_claims[-1], claim)
        open_claims.append(claim)
    _addresses(fabric)


def _pools(fabric: Fabric) -> list[_Claim]:
    doc = fabric.desired.fabric
    if doc is None:
        return []
    pools = doc.model.pools
    named = {"links": pools.links, "backbone": pools.backbone, "clients": pools.clients}
    if any(exit.sites for node in fabric.nodes.values() for exit in node.model.exits.values()):
        named["exits"] = pools.exits
    return [
        _Claim(prefix, f"pool {name}", f"the pool of {name}", doc.place("pools", name, i), None, (), pool=True)
        for name, prefixes in named.items()
        for i, prefix in enumerate(prefixes)
    ]


def _site_claims(fabric: Fabric, site: str, nodes: list[Node]) -> list[_Claim]:
    claims: list[_Claim] = []
    on_lan: dict[Prefix, list[tuple[Node, str, Interface]]] = {}
    # A host without a key is left out, but networks that other hosts of its site are on must stay.
    nodes = sorted(nodes, key=lambda node: node.key is None)
    doc = nodes[0].doc
    if isinstance(doc.model, Region):
        for i, prefix in enumerate(doc.model.aws.cidr):
            nodes[0].networks.append(prefix)
            claims.append(_Claim(prefix, site, f"{site}'s VPC", doc.place("aws", "cidr", i), None, ()))
    for node in nodes:
        for dev, lan in node.model.lans.items():
            for i, address in enumerate(lan.addresses):
                network = address.network
                if network not in on_lan:
                    on_lan[network] = [(node, dev, address)]
                    node.networks.append(network)
                    claims.append(_Claim(network, site, f"{site}'s LAN", None, node, ("lans", dev, "addresses", i)))
                elif on_lan[network][-1][0] is not node:
                    for other in on_lan[network]:
                        _join(fabric, other, (node, dev, address))
                    on_lan[network].append((node, dev, address))
                else:
                    hint = "one host has one address in a network"
                    fabric.problem("GW030", node.place("lans", dev, "addresses", i), f"{network} twice", hint)
    return claims


def _join(fabric: Fabric, first: tuple[Node, str, Interface], second: tuple[Node, str, Interface]) -> None:
    """Connect two hosts on one LAN directly."""
    a, b = first[0], second[0]
    edge = next((e for e in a.edges if e.kind == "lan" and e.other(a) is b), None)
    if edge is None:
        edge = GraphEdge("lan", a, b, dev={a.name: {}, b.name: {}}, via={a.name: {}, b.name: {}})
        fabric.edges.append(edge)
        a.edges.append(edge)
        b.edges.append(edge)
    version = first[2].version
    if version not in edge.via[a.name]:  # they use the first of several shared LANs
        edge.via[a.name][version], edge.dev[a.name][version] = second[2].address, first[1]
        edge.via[b.name][version], edge.dev[b.name][version] = first[2].address, second[1]


def _clash(fabric: Fabric, outer: _Claim, inner: _Claim) -> None:
    same_vpc = outer.site == inner.site and "VPC" in outer.what
    if same_vpc:
        return  # a gateway's LAN inside its own VPC
    later, first = (inner, outer) if outer.where() <= inner.where() else (outer, inner)
    message = f"{later.what} {later.prefix} overlaps {first.what} {first.prefix}"
    code = "GW032" if outer.pool or inner.pool else "GW031"
    hint = "two owners cannot both have an address: shrink or move one of them"
    fabric.problem(code, later.where(), message, hint, (first.where(), "the other one"))


def _addresses(fabric: Fabric) -> None:
    """Check that no address is on two hosts."""
    seen: dict[tuple[int, int], tuple[Node, tuple[str | int, ...]]] = {}
    for _, node in sorted(fabric.nodes.items()):
        for loc, address in written(node):
            key = (address.version, address.value)
            if key in seen:
                other, first = seen[key]
                hint = "give one of them another address"
                fabric.problem(
                    "GW030",
                    node.place(*loc),
                    f"{address.address} is {other.name}'s",
                    hint,
                    (other.place(*first), "there"),
                )
            seen[key] = (node, loc)


def written(node: Node) -> list[tuple[tuple[str | int, ...], Interface]]:
    """The addresses of a host that others may see, and their places in the document."""
    underlay = node.model.underlay
    found: list[tuple[tuple[str | int, ...], Interface]] = [
        (("lans", dev, "addresses", i), address)
        for dev, lan in node.model.lans.items()
        for i, address in enumerate(lan.addresses)
    ]
    if underlay.addresses != "dhcp" and (underlay.public or underlay.managed or not _behind_nat(node)):
        found += [(("underlay", "addresses", i), address) for i, address in enumerate(underlay.addresses)]
    return found


def _behind_nat(node: Node) -> bool:
    """Underlay addresses that are only valid inside a provider's or a VPC's network may repeat."""
    addresses = node.model.underlay.addresses
    return addresses == "dhcp" or all(is_private(address) for address in addresses)
