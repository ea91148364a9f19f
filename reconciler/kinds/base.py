"""What the agent knows about a kind of resource without touching the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schema.plan import PROTOCOL, Change, Resource

R = TypeVar("R", bound=Resource)

ALIAS = "gitwan"
"""The interface alias that marks a link, and with it the WireGuard device and peers on it, as ours."""


@dataclass(frozen=True, slots=True)
class Session:
    """What only a running WireGuard peer has."""

    endpoint: str | None
    """Where it speaks to now, `address:port` or `[address]:port`; roaming may have moved it."""
    handshake_age: float | None
    """Seconds since the last handshake; None where there never was one."""
    rx_bytes: int = 0
    tx_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Observed(Generic[R]):
    """A resource as the kernel holds it, with whatever marks its owner there."""

    resource: R
    marker: int | str | None = None
    """Route, rule, nexthop or address protocol; interface alias; a word where ours are known otherwise."""
    session: Session | None = None
    """Only for peers."""
    up: bool = True
    """False only for a link that somebody set down, and a service that has ended: ours are always up."""


def owned_by_protocol(observed: Observed[Resource]) -> bool:
    return observed.marker == PROTOCOL


def owned_by_alias(observed: Observed[Resource]) -> bool:
    return observed.marker == ALIAS


def equal(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    return observed.resource == desired


def as_desired(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> Resource:
    return desired


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: whose an observed object is, and whether it already is what the plan wants.

    `satisfies(observed, desired, previous)`: `previous` is the same resource in the last confirmed plan, for fields
    that the kernel moves on its own (a peer's endpoint). Rank, key and cost of change stand in `schema/plan`.
    """

    name: str
    owns: Callable[[Observed[Resource]], bool]
    satisfies: Callable[[Observed[Resource], Resource, Resource | None], bool] = equal
    aim: Callable[[Observed[Resource], Resource, Resource | None], Resource] = as_desired
    """What a change of an observed object should lead to: the desired resource, but with what the kernel may move
    on its own (the endpoint of a peer that roamed) left where it is. Use it as `Change.after`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A change that the kernel refused."""

    change: Change
    errno: int
    """As in errno(3); 0 where a tool failed without one."""
    message: str


class Driver(Protocol[R]):
    """The effects of one kind. The only code that touches the kernel."""

    def observe(self) -> Sequence[Observed[R]]:
        """Every object of this kind on the host, ours and others'. Raises OSError."""
        ...

    def apply(self, changes: Sequence[Change]) -> Sequence[Failure]:
        """Carry out the changes, in their order, in as few messages as possible.

        Idempotent: creating what is there and equal, and deleting what is gone, succeed. All that is not named in
        the result was done. Raises nothing but OSError, and that only where nothing more can be known.
        """
        ...
