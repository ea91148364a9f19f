"""Kernel parameters: ours if the inventory holds the value from before us."""

from __future__ import annotations

from reconciler.kinds.base import Kind, Observed
from schema.plan import Resource, Sysctl

MARKER = "inventory"


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    """Equal, except for white space: the kernel separates several values by tabs."""
    found = observed.resource
    if not (isinstance(found, Sysctl) and isinstance(desired, Sysctl)):
        return False
    return found.name == desired.name and found.value.split() == desired.value.split()


KIND = Kind(name="sysctl", marker=MARKER, stands_on=frozenset({"link"}), announced_by="nobody", satisfies=satisfies)
