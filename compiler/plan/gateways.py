"""The services of the gateways of a group on their LANs: VRRP for the virtual addresses, and IPv6 router advertisements
for the networks behind them.

A gateway that has lost its tunnels announces lower priorities, so that another one takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.agentless.lan_routes import behind
from compiler.fabric.model import Fabric, GraphEdge, Group, Node, Segment
from schema.ip import Prefix
from schema.plan import Service

FIRST, STEP = 200, 50
"""VRRP priorities: of the first gateway, and the difference to each further one."""
LOST = 5
"""A gateway without tunnels divides its priority by this, which puts it below any gateway with tunnels."""
LIFETIME = 12
"""Seconds for which a host keeps an advertised route; it is announced again every 3 to 4 s."""
ADVERT = 0.5
"""Seconds between two VRRP advertisements. The next gateway takes over after missing three and a part of a fourth."""


def services(
    fabric: Fabric, node: Node, ways: Mapping[GraphEdge, list[Prefix]], *, lost: bool = False
) -> Iterator[Service]:
    """The daemons of a gateway of a group; with `lost`, in their state while all of its tunnels are dead."""
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
        # Only the first gateway waits: a replacement must take over at once when the previous one lowers its priority.
        "hold": round(group.model.hold) if rank == 0 else 0,
        "link_local": _link_local(group),
    }


def _link_local(group: Group) -> str:
    """An IPv6 virtual router's first address (RFC 5798, 5.2.9), formed as from its MAC."""
    return f"fe80::200:5eff:fe00:{0x200 + group.model.vrid:x}"


def _config(name: str, context: Mapping[str, object]) -> str:
    from compiler.render import service_config  # jinja2 is only needed for gateways

    return service_config(name, context)
