"""Names: each is unique, and every reference exists."""

from __future__ import annotations

from difflib import get_close_matches

import schema.desired
from compiler.fabric.model import Fabric, Node, Roamer
from schema.desired import Located, Region, Site
from schema.problem import Place


def index_names(fabric: Fabric) -> None:
    """Index sites, hosts and clients by name, and the members of the backbone."""
    seen: dict[str, tuple[Place, str]] = {}
    for doc in fabric.desired.sites:
        site = doc.model
        if not _first_of(fabric, seen, site.site, doc.place("site"), "site"):
            continue
        nodes = []
        for name, host in sorted(site.hosts.items()):
            own_site = name == site.site and len(site.hosts) == 1
            if own_site or _first_of(fabric, seen, name, doc.place("hosts", name, key=True), "host"):
                label = host.short or (site.short or site.site if len(site.hosts) == 1 else name)
                nodes.append(Node(name, site.site, host, doc, label))
        fabric.nodes |= {node.name: node for node in nodes}
        if nodes:
            fabric.sites[site.site] = sorted(nodes, key=lambda node: _rank(site, node.name))
    for name, client in fabric.desired.clients:
        if _first_of(fabric, seen, name, client.text.place(client.prefix, key=True), "client"):
            fabric.clients[name] = Roamer(name, client.model, client, client.model.gateway)
    _references(fabric)


def _rank(site: Site, host: str) -> tuple[int, str]:
    """Gateways by their priority, then other hosts by name."""
    gateways = None if isinstance(site, Region) else site.gateways
    order = gateways.hosts if gateways else ()
    return (order.index(host) if host in order else len(order), host)


def _first_of(fabric: Fabric, seen: dict[str, tuple[Place, str]], name: str, place: Place, what: str) -> bool:
    if name in seen:
        first, kind = seen[name]
        hint = "names are unique in the fabric: rename one of them"
        fabric.problem("GW020", place, f"the name {name!r} is taken", hint, (first, f"by this {kind}"))
        return False
    seen[name] = (place, what)
    return True


def _references(fabric: Fabric) -> None:
    doc = fabric.desired.fabric
    if doc is None:
        return
    fabric.name = doc.model.fabric
    _links(fabric, doc)
    _backbone(fabric, doc)
    _denied_and_probed(fabric, doc)
    for roamer in fabric.clients.values():
        node = known(fabric, roamer.gateway, roamer.doc.place("gateway"))
        if node:
            roamer.gateway = node.name
            node.clients.append(roamer)


def _backbone(fabric: Fabric, doc: Located[schema.desired.Fabric]) -> None:
    for i, name in enumerate(doc.model.backbone):
        node = known(fabric, name, doc.place("backbone", i))
        if node in fabric.backbone:
            fabric.problem("GW020", doc.place("backbone", i), f"{name!r} stands in the backbone twice", "remove one")
        elif node:
            fabric.backbone.append(node)


def _denied_and_probed(fabric: Fabric, doc: Located[schema.desired.Fabric]) -> None:
    for i, deny in enumerate(doc.model.deny):
        for end, name in (("from", deny.from_), ("to", deny.to)):
            if name not in fabric.clients:
                known(fabric, name, doc.place("deny", i, end))
    for i, probe in enumerate(doc.model.probes):
        for j, name in enumerate(probe.from_):
            known(fabric, name, doc.place("probes", i, "from", j))


def _links(fabric: Fabric, doc: Located[schema.desired.Fabric]) -> None:
    for i, link in enumerate(doc.model.links):
        for j, name in enumerate(link.between):
            if fabric.resolve(name) is None:
                known(fabric, name, doc.place("links", i, "between", j))
        for name in link.ports:
            if name not in link.between:
                hint = f"the ends of this link are {link.between[0]} and {link.between[1]}"
                fabric.problem("GW021", doc.place("links", i, "ports", name, key=True), f"{name!r} is no end", hint)


def known(fabric: Fabric, name: str, place: Place) -> Node | None:
    """The named host, or a problem."""
    node = fabric.resolve(name)
    if node is None:
        near = get_close_matches(name, [*fabric.sites, *fabric.nodes], n=1)
        hint = f"did you mean {near[0]}?" if near else "it is the name of a site or of a host"
        fabric.problem("GW021", place, f"there is no {name!r}", hint)
    return node
