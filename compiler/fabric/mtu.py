"""The MTU of tunnels."""

from __future__ import annotations

from collections.abc import Callable

from compiler.fabric.model import Fabric, GraphEdge
from compiler.fabric.reach import versions
from schema.problem import Place

OVERHEAD = {4: 60, 6: 80}
"""Outer IP header, UDP and WireGuard's data message: 20 or 40, 8, and 32 bytes (wireguard.com/protocol)."""
MIN_MTU = 1280


def tunnel_mtu(fabric: Fabric, edge: GraphEdge, wanted: int | None, place: Callable[..., Place]) -> int:
    """The MTU of an edge's tunnels, in bytes: the wanted one, or what the underlay allows. Reports a bad one."""
    underlay = min(edge.a.model.underlay.mtu, edge.b.model.underlay.mtu)
    version = 6 if 6 in versions(edge.a.model.underlay) & versions(edge.b.model.underlay) else 4
    if wanted is not None and wanted > underlay - OVERHEAD[version]:
        message = f"an MTU of {wanted} does not fit into {underlay} bytes of underlay"
        hint = f"WireGuard over IPv{version} takes {OVERHEAD[version]} bytes: at most {underlay - OVERHEAD[version]}"
        fabric.problem("GW043", place("mtu"), message, hint)
    mtu = wanted or underlay - OVERHEAD[6]
    if mtu < MIN_MTU:
        message = f"{underlay} bytes of underlay between {edge.a.name} and {edge.b.name} leave {mtu} to a tunnel"
        hint = f"IPv6 needs {MIN_MTU} (RFC 8200, 5): write a larger `mtu:` for the underlay, or for the link"
        fabric.problem("GW043", place("mtu"), message, hint)
    return mtu
