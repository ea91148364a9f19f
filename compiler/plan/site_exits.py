"""Our own hosts as gateways of other hosts' exits: their tunnels lead to the internet and nowhere else.

Traffic from these tunnels does not belong to our networks, whatever site it comes from: otherwise it would bypass
policy.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.fabric.model import Fabric, HostExit, Node, address_of, own_key
from compiler.fabric.mtu import OVERHEAD
from compiler.fabric.reach import reach
from compiler.fabric.summary import subtract, summarise
from schema.ip import NOT_GLOBAL, endpoint_text, is_private
from schema.plan import Link, Peer, Resource, Route, Sysctl, Wireguard, WrittenGateway
from schema.plan.base import Family
from schema.plan.exits import SITE_EXITS

REFUSE: dict[Family, str] = {
    "inet": "-j REJECT --reject-with icmp-admin-prohibited",
    "inet6": "-j REJECT --reject-with icmp6-adm-prohibited",
}
CLAMP = "-m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"
"""Clamp TCP segments to the path MTU."""
_VERSION: dict[Family, int] = {"inet": 4, "inet6": 6}
_ANSWERS = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


def mtu(fabric: Fabric, exit: HostExit) -> int:
    """The MTU of an exit's tunnels, the same at both ends, in bytes."""
    hosts = [fabric.nodes[name] for name in (exit.host, *exit.gateways)]
    return exit.model.mtu or min(host.model.underlay.mtu for host in hosts) - OVERHEAD[6]


def gateways(fabric: Fabric, exit: HostExit) -> Iterator[WrittenGateway]:
    """Our hosts that an exit leads to, in the form that the exit's host needs."""
    for node in (fabric.nodes[name] for name in exit.gateways):
        address = reach(node, fabric.nodes[exit.host])
        if node.key and address:
            endpoint = endpoint_text(address, node.ports[SITE_EXITS])
            yield WrittenGateway(
                name=node.name, endpoint=endpoint, public_key=node.key, addresses=_addresses(node, exit)
            )


def site_exits(fabric: Fabric, node: Node) -> Iterator[Resource]:
    """The device for exits of other hosts, with a peer and a route for each."""
    if not node.served_exits:
        return
    # It is in no interface group, because the rules for our own tunnels must not apply to it.
    yield Link(name=SITE_EXITS, type="wireguard", mtu=min(mtu(fabric, exit) for exit in node.served_exits))
    mark = node.marks.bypass if node.marks else None
    yield Wireguard(dev=SITE_EXITS, private_key=own_key(node.key), listen_port=node.ports[SITE_EXITS], fwmark=mark)
    if 6 in _carried(node):
        # Our interfaces need IPv6 even if it is disabled for new interfaces.
        yield Sysctl(name=f"net/ipv6/conf/{SITE_EXITS}/disable_ipv6", value="0")
    for exit in node.served_exits:
        if key := fabric.nodes[exit.host].key:
            addresses = _addresses(node, exit)
            yield Peer(dev=SITE_EXITS, public_key=key, allowed_ips=tuple(sorted(addresses)), name=exit.host)
            yield from (Route(dst=address, dev=SITE_EXITS) for address in addresses)


def _addresses(node: Node, exit: HostExit) -> tuple[str, ...]:
    """The addresses of an exit at a gateway, only of families that reach the internet there."""
    return tuple(address_of(v, value) for v, value in sorted(exit.address.items()) if v in _carried(node))


def _carried(node: Node) -> set[int]:
    """The families through which a host reaches the internet: private IPv6 addresses are not translated."""
    addresses = node.model.underlay.addresses
    if addresses == "dhcp":
        return {4}
    return {address.version for address in addresses if address.version == 4 or not is_private(address)}


def forwarded(fabric: Fabric, node: Node, family: Family) -> Iterator[str]:
    """Forward only between these tunnels and the underlay, and only to the internet."""
    if not node.served_exits:
        return
    underlay, refuse = node.model.underlay.dev, REFUSE[family]
    if _VERSION[family] in _carried(node):
        # The underlay also leads to a provider's own services and a VPC.
        ours = subtract([p for other in fabric.nodes.values() for p in other.prefixes], NOT_GLOBAL)
        for prefix in [*NOT_GLOBAL, *summarise(ours)]:
            if prefix.family == family:
                yield f"-d {prefix} -i {SITE_EXITS} {refuse}"
        yield f"-i {SITE_EXITS} -o {underlay} -j ACCEPT"
        yield f"-i {underlay} -o {SITE_EXITS} {_ANSWERS}"
    yield f"-i {SITE_EXITS} {refuse}"
    yield f"-o {SITE_EXITS} {refuse}"


def entering(node: Node, family: Family) -> Iterator[str]:
    """Accept only replies to the host itself."""
    if node.served_exits:
        yield f"-i {SITE_EXITS} {_ANSWERS}"
        yield f"-i {SITE_EXITS} {REFUSE[family]}"


def clamped(node: Node) -> tuple[str, ...]:
    """Clamp TCP segments to these tunnels, in both directions."""
    return tuple(f"{direction} {SITE_EXITS} -p tcp {CLAMP}" for direction in ("-i", "-o")) if node.served_exits else ()


def translated(fabric: Fabric, node: Node, family: Family) -> list[str]:
    """Traffic that leaves gets the host's own address."""
    doc = fabric.desired.fabric
    if doc is None or not node.served_exits or _VERSION[family] not in _carried(node):
        return []
    pool = [prefix for prefix in doc.model.pools.exits if prefix.family == family]
    return [f"-s {prefix} -o {node.model.underlay.dev} -j MASQUERADE" for prefix in pool]
