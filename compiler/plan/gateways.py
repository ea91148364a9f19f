"""What the gateways of a group say on their LANs: who has the virtual addresses (VRRP), and which networks lie behind
them (IPv6 router advertisements).

A gateway that has lost its tunnels says the same with less weight, so that another takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.agentless.lan_routes import behind
from compiler.fabric.model import Fabric, GraphEdge, Group, Node, Segment
from schema.ip import Prefix
from schema.plan import Service

FIRST, STEP = 200, 50
"""VRRP's priorities: of the first gateway, and how much less each further one has."""
LOST = 5
"""A gateway without tunnels has this part of its priority: less than any other that has some."""
LIFETIME = 12
"""Seconds for which a host believes a route; it is said again every 3 to 4."""
ADVERT = 0.5
"""Seconds between two advertisements. Three of them and a part of a fourth without one, and the next takes over."""


def services(
    fabric: Fabric, node: Node, ways: Mapping[GraphEdge, list[Prefix]], *, lost: bool = False
) -> Iterator[Service]:
    """The daemons of a gateway of a group; with `lost`, as they are while all of its tunnels are dead."""
    group = fabric.group(node)
    if group is None:
        return
    if any(segment.virtual for segment in group.segments):
        yield Service(name="keepalived", config=_config("keepalived", _vrrp(group, node, lost)))
    there = [prefixes for edge, prefixes in ways.items() if edge.kind != "lan"]
    routes = [prefix for prefix in behind(fabric, there) if there and prefix.version == 6]
    lans = [_advertised(group, s, node, lost) for s in group.segments if any(n.version == 6 for n in s.networks)]
    if routes and lans:
        yield Service(name="radvd", config=_config("radvd", {"host": node.name, "lans": lans, "routes": routes}))


def _advertised(group: Group, segment: Segment, node: Node, lost: bool) -> dict[str, object]:
    """How a gateway advertises on a LAN: as the virtual router, which only the active one does, or as itself."""
    lan: dict[str, object] = {"dev": segment.devs[node.name], "source": None}
    if any(address.version == 6 for address in segment.virtual):
        return lan | {"source": _link_local(group), "preference": "high", "lifetime": LIFETIME}
    first = node is group.nodes[0] and not lost
    return lan | {"preference": "high" if first else "low", "lifetime": 0 if lost else LIFETIME}


def _vrrp(group: Group, node: Node, lost: bool) -> dict[str, object]:
    rank = group.nodes.index(node)
    instances = [
        {
            "dev": segment.devs[node.name],
            "family": family,
            "addresses": [str(a.host) for a in sorted(segment.virtual) if a.host.family == family],
        }
        for segment in group.segments
        for family in ("inet", "inet6")
    ]
    priority = FIRST - rank * STEP
    return {
        "host": node.name,
        "instances": [instance for instance in instances if instance["addresses"]],
        "vrid": group.model.vrid,
        "priority": priority // LOST if lost else priority,
        "advert": ADVERT,
        # Only the first waits: whoever stands in has to take over at once where the one before it says less.
        "hold": round(group.model.hold) if rank == 0 else 0,
        "link_local": _link_local(group),
    }


def _link_local(group: Group) -> str:
    """An IPv6 virtual router's first address (RFC 5798, 5.2.9), made as from its MAC."""
    return f"fe80::200:5eff:fe00:{0x200 + group.model.vrid:x}"


def _config(name: str, context: Mapping[str, object]) -> str:
    from compiler.render import service_config  # jinja2 is only needed where there are gateways

    return service_config(name, context)
