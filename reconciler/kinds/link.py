"""Links: ours by interface alias. Ours are always up."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.kinds.base import ALIAS, Kind, Observed
from schema.plan import Link, Resource


@dataclass(frozen=True, slots=True)
class Leg:
    """The state of a running bond's member."""

    name: str
    carrier: bool
    aggregator: int | None = None
    """With 802.3ad: legs to the same switch with the same settings share an aggregator."""


@dataclass(frozen=True, slots=True)
class BondState:
    """The state of a running bond."""

    mode: str
    hash: str
    legs: tuple[Leg, ...]
    aggregator: int | None = None
    """With 802.3ad: the active aggregator."""
    partner: bool = False
    """With 802.3ad: whether the other end uses LACP."""


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    """Whether the link exists, is up, and matches every property that the plan sets."""
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
