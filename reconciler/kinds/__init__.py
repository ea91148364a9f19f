"""What the agent knows about each kind of resource without touching the kernel: one pure file per kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.kinds import address, firewall, link, nexthop, peer, route, rule, service, sysctl, wireguard
from reconciler.kinds.base import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (firewall, link, sysctl, wireguard, address, peer, nexthop, route, rule, service)
}  # fmt: skip
"""Every kind by name, in the order in which it is created."""

UNANNOUNCED = frozenset(kind.name for kind in KINDS.values() if kind.announced_by == "nobody")
"""What has to be looked at every few seconds."""


def dependents(kinds: Iterable[str], registry: Mapping[str, Kind] = KINDS) -> frozenset[str]:
    """These kinds, and all that a change of one of them may have taken along or moved."""
    found = frozenset(kinds)
    while True:
        more = found.union(kind.name for kind in registry.values() if kind.stands_on & found)
        if more == found:
            return found
        found = more


def companions(kinds: Iterable[str], registry: Mapping[str, Kind] = KINDS) -> frozenset[str]:
    """These kinds, and what has to be seen beside them to know whose they are."""
    return frozenset(kinds).union(whole for name in kinds if name in registry and (whole := registry[name].part_of))
