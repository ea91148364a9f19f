"""Finds the address or name at which a host is dialled."""

from __future__ import annotations

from compiler.fabric.model import Node
from schema.desired.host import Underlay
from schema.ip import Interface, is_private


def reach(node: Node, by: Node | None) -> str | None:
    """The address or name at which `by` (None: anybody) dials a host; None if the host only dials out."""
    underlay = node.model.underlay
    dialled = versions(by.model.underlay) if by else {4, 6}
    candidates = underlay.public
    if not candidates and underlay.addresses != "dhcp":
        candidates = tuple(a for a in underlay.addresses if not is_private(a))
    for candidate in sorted(candidates, key=lambda c: c.version if isinstance(c, Interface) else 0):
        if isinstance(candidate, str):
            return candidate
        if candidate.version in dialled:
            return candidate.address
    return None


def versions(underlay: Underlay) -> set[int]:
    """The address families that a host can dial; DHCP means IPv4."""
    if underlay.addresses == "dhcp":
        return {4}
    return {address.version for address in underlay.addresses}
