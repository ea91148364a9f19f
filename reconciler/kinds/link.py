"""Links: ours by interface alias, and up."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.kinds.base import ALIAS, Kind, Observed
from schema.plan import Link, Resource


@dataclass(frozen=True, slots=True)
class Leg:
    """What only a running bond's member has."""

    name: str
    carrier: bool
    aggregator: int | None = None
    """With 802.3ad: legs whose partner is the same switch, set up the same, are in one aggregator."""


@dataclass(frozen=True, slots=True)
class BondState:
    """What only a running bond has."""

    mode: str
    hash: str
    legs: tuple[Leg, ...]
    aggregator: int | None = None
    """With 802.3ad: the one that is in use."""
    partner: bool = False
    """With 802.3ad: whether anybody speaks LACP at the other end."""


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    """Whether the link is there, up, and as far as the plan says anything about it, as the plan says."""
    found = observed.resource
    if not (isinstance(found, Link) and isinstance(desired, Link)):
        return False
    return (
        observed.up
        and found.type == desired.type
        and desired.mtu in (None, found.mtu)
        and desired.group in (None, found.group)
        and set(found.members) == set(desired.members)
        and desired.bond in (None, found.bond)
    )


KIND = Kind(
    name="link",
    marker=ALIAS,
    stands_on=frozenset(),
    announced_by="rtnetlink",
    messages=(16, 17),
    waits=True,
    satisfies=satisfies,
)
