"""Groups of gateways that replace each other, and the LANs that they share."""

from __future__ import annotations

from difflib import get_close_matches

from compiler.fabric.model import Fabric, Group, Node, Segment
from compiler.stages.networks import written
from schema.desired import Gateways, Located, Region, Site
from schema.ip import Interface, Prefix


def take_gateways(fabric: Fabric) -> None:
    """Add the groups of all sites, with the LANs that all hosts of a group share."""
    for doc in fabric.desired.sites:
        site = doc.model
        if isinstance(site, Region) or site.gateways is None or site.site not in fabric.sites:
            continue
        nodes = _hosts(fabric, doc, site.gateways)
        if len(nodes) < len(site.gateways.hosts):
            continue
        group = Group(site.site, nodes, site.gateways, doc, _segments(nodes))
        if not group.segments:
            names = " and ".join(node.name for node in nodes)
            hint = "give each of them an address of one network under `lans:`"
            fabric.problem("GW101", doc.place("gateways"), f"{names} share no LAN", hint)
            continue
        _distinct(fabric, group)
        _families(fabric, group)
        _virtual(fabric, group)
        fabric.groups[site.site] = group


def _hosts(fabric: Fabric, doc: Located[Site], gateways: Gateways) -> list[Node]:
    known = {node.name: node for node in fabric.sites[doc.model.site]}
    found: list[Node] = []
    for i, name in enumerate(gateways.hosts):
        place = max(doc.place("gateways", i), doc.place("gateways", "hosts", i))  # the short form, or the long one
        node = known.get(name)
        if node is None:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"hosts of {doc.model.site}: {', '.join(known)}"
            fabric.problem("GW100", place, f"{doc.model.site} has no host {name!r}", hint)
        elif node in found:
            fabric.problem("GW100", place, f"{name} stands among the gateways twice", "name each host once")
        else:
            found.append(node)
    return found


def _segments(nodes: list[Node]) -> list[Segment]:
    """The networks that all hosts are on, by the interfaces to them."""
    found: dict[tuple[str, ...], Segment] = {}
    on = [_networks(node) for node in nodes]
    for network in sorted(on[0]):
        if all(network in networks for networks in on):
            devs = tuple(networks[network] for networks in on)
            by_host = dict(zip((node.name for node in nodes), devs, strict=True))
            found.setdefault(devs, Segment(by_host)).networks.append(network)
    return list(found.values())


def _networks(node: Node) -> dict[Prefix, str]:
    return {address.network: dev for dev, lan in node.model.lans.items() for address in lan.addresses}


def _distinct(fabric: Fabric, group: Group) -> None:
    """Check that two LANs of one host are two for every host: VRRP works per interface, with one number on each."""
    for node in group.nodes:
        seen: dict[str, Segment] = {}
        for segment in group.segments:
            dev = segment.devs[node.name]
            first = seen.setdefault(dev, segment)
            if first is not segment:
                message = f"{node.name} has {first.networks[0]} and {segment.networks[0]} on {dev}, the others do not"
                hint = "put both on one interface at every gateway, or on two"
                fabric.problem("GW104", node.place("lans", dev), message, hint)


def _families(fabric: Fabric, group: Group) -> None:
    """Check the LAN's families: traffic at a gateway that lost a link goes to the next one in its own family."""
    elsewhere = {n.version for node in fabric.nodes.values() if node.site != group.site for n in _networks(node)}
    missing = elsewhere - {network.version for segment in group.segments for network in segment.networks}
    for version in sorted(missing):
        message = f"the gateways of {group.site} share no IPv{version} network, and other sites have some"
        hint = f"IPv{version} that passes through here is cut where one of them loses a link: give their LAN a subnet"
        fabric.warning("GW106", group.doc.place("gateways"), message, hint)


def _virtual(fabric: Fabric, group: Group) -> None:
    nodes = [node for _, node in sorted(fabric.nodes.items())]
    taken = {address.host: f"{node.name}'s" for node in nodes for _, address in written(node)}
    for i, text in enumerate(group.model.virtual):
        address, place = Interface.parse(text), group.doc.place("gateways", "virtual", i)
        segment = next((s for s in group.segments if any(n.covers(address.host) for n in s.networks)), None)
        if segment is None:
            shared = ", ".join(str(network) for s in group.segments for network in s.networks)
            hint = f"they share {shared}"
            fabric.problem("GW102", place, f"{text} is in no LAN that all gateways of {group.site} share", hint)
            continue
        network = next(n for n in segment.networks if n.covers(address.host))
        if address.value in (network.first, network.last):
            taken[address.host] = "the network's own"
        if owner := taken.get(address.host):
            hint = "a virtual address is nobody's own: choose one that is free on the LAN"
            fabric.problem("GW103", place, f"{text} is {owner}", hint)
            continue
        taken[address.host] = "a virtual address already"
        segment.virtual.append(address)
