"""Nexthop objects: ours by protocol."""

from __future__ import annotations

from reconciler.kinds.base import Kind, Observed
from schema.plan import PROTOCOL, Nexthop, Resource


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    """Equal, except for the order of a group's members and for a family that the plan leaves to the kernel."""
    found = observed.resource
    if not (isinstance(found, Nexthop) and isinstance(desired, Nexthop)):
        return False
    if desired.group:
        members = {(m.id, m.weight) for m in desired.group}
        same = len(found.group) == len(desired.group) and {(m.id, m.weight) for m in found.group} == members
        return same and found.resilient == desired.resilient
    return (
        (found.id, found.dev, found.via, found.group) == (desired.id, desired.dev, desired.via, ())
        and desired.family in (None, found.family)
    )  # fmt: skip


KIND = Kind(
    name="nexthop",
    marker=PROTOCOL,
    stands_on=frozenset({"link", "sysctl", "address"}),
    announced_by="rtnetlink",
    messages=(104, 105),
    satisfies=satisfies,
)
