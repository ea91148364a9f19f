"""What the agent knows about each kind of resource without the kernel: one pure file per kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.kinds import address, firewall, link, nexthop, peer, route, rule, service, sysctl, wireguard
from reconciler.kinds.base import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (firewall, link, sysctl, wireguard, address, peer, nexthop, route, rule, service)
}  # fmt: skip
"""All kinds by name, in the order of creation."""

UNANNOUNCED = frozenset(kind.name for kind in KINDS.values() if kind.announced_by == "nobody")
"""The kinds that must be read every few seconds."""


def dependents(kinds: Iterable[str], registry: Mapping[str, Kind] = KINDS) -> frozenset[str]:
    """These kinds, and all kinds that a change of one of them may have deleted or moved."""
    found = frozenset(kinds)
    while True:
        more = found.union(kind.name for kind in registry.values() if kind.stands_on & found)
        if more == found:
            return found
        found = more


def companions(kinds: Iterable[str], registry: Mapping[str, Kind] = KINDS) -> frozenset[str]:
    """These kinds, and the kinds that must be read with them to know who owns them."""
    return frozenset(kinds).union(whole for name in kinds if name in registry and (whole := registry[name].part_of))
