"""The routes that machines without an agent need on a LAN, and their DHCP option. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compiler.fabric.model import Fabric, Node
from compiler.fabric.summary import summarise
from compiler.stages.routing import pool_prefixes, prefixes_by_edge
from schema.ip import Interface, Prefix, address_text

OPTION_LIMIT = 255
"""The maximum size of one DHCP option in bytes. A longer one is split (RFC 3396), but not every client supports
this."""


@dataclass(frozen=True, slots=True)
class LanRoutes:
    """The networks behind one LAN, and the address on it that leads to them."""

    network: Prefix
    via: str
    virtual: bool
    """Whether the address is virtual and moves to the active gateway."""
    prefixes: list[Prefix]


def lan_routes(fabric: Fabric, site: str) -> list[LanRoutes]:
    """Every LAN of a site with its gateway, and all networks of the fabric outside of this LAN, sorted."""
    found: dict[Prefix, LanRoutes] = {}
    group = fabric.groups.get(site)
    virtual = [address for segment in group.segments for address in segment.virtual] if group else []
    for node in fabric.sites[site]:
        for lan in node.model.lans.values():
            for address in lan.addresses if node.key else ():
                network = address.network
                shared = next((a for a in virtual if network.covers(a.host)), None)
                via = (shared or address).address
                routes = LanRoutes(network, via, shared is not None, _elsewhere(fabric, node, network))
                found.setdefault(network, routes)
    return [found[network] for network in sorted(found)]


def _elsewhere(fabric: Fabric, node: Node, lan: Prefix) -> list[Prefix]:
    """All networks that a host reaches, except one of its own LANs."""
    connected = [address.network for own in node.model.lans.values() for address in own.addresses]
    known = [*node.networks, *connected, *behind(fabric, prefixes_by_edge(fabric, node).values())]
    return summarise(prefix for prefix in known if prefix.version == lan.version and not lan.covers(prefix))


def behind(fabric: Fabric, prefixes: Iterable[Iterable[Prefix]]) -> list[Prefix]:
    """Networks for machines without an agent. Pools are listed as a whole, so that a new host or client changes
    nothing."""
    return summarise([*pool_prefixes(fabric), *(prefix for some in prefixes for prefix in some)])


def option_121(routes: Iterable[tuple[Prefix, str]]) -> bytes:
    """IPv4 prefixes and their routers, encoded by RFC 3442: prefix length, significant octets, router."""
    return b"".join(bytes(octets) for prefix, via in routes for octets in (_destination(prefix), _octets(via)))


def read_option_121(data: bytes) -> list[tuple[Prefix, str]]:
    """Decode option 121 as a client does: prefixes and their routers. Raises ValueError for an invalid option."""
    found = []
    while data:
        length = data[0]
        octets = (length + 7) // 8
        if length > 32 or len(data) < 1 + octets + 4:
            raise ValueError("no classless static routes")
        value = int.from_bytes(data[1 : 1 + octets].ljust(4, b"\0"), "big")
        via = int.from_bytes(data[1 + octets : 5 + octets], "big")
        found.append((Prefix(4, value, length), address_text(4, via)))
        data = data[5 + octets :]
    return found


def _destination(prefix: Prefix) -> list[int]:
    return [prefix.length, *prefix.value.to_bytes(4, "big")[: (prefix.length + 7) // 8]]


def _octets(address: str) -> bytes:
    return Interface.parse(address).value.to_bytes(4, "big")
