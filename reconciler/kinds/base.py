"""What the agent knows about a kind of resource without the kernel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from schema.plan import Change, Resource

R = TypeVar("R", bound=Resource)

ALIAS = "gitwan"
"""The interface alias that marks a link as ours, and so the WireGuard device and peers on it."""


@dataclass(frozen=True, slots=True)
class Session:
    """The state of a running WireGuard peer."""

    endpoint: str | None
    """The peer's current endpoint, `address:port` or `[address]:port`; roaming may have changed it."""
    handshake_age: float | None
    """Seconds since the last handshake; None if there was none."""
    rx_bytes: int = 0
    tx_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Observed(Generic[R]):
    """A resource as the kernel holds it, with the mark of its owner."""

    resource: R
    marker: int | str | None = None
    """Route, rule, nexthop or address protocol; interface alias; otherwise a word that says how ours are recognised."""
    session: Session | None = None
    """Only for peers."""
    up: bool = True
    """False only for a link that was set down, and for a service that has ended: ours are always up."""


def equal(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    return observed.resource == desired


def as_desired(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> Resource:
    return desired


def what_is_exclusive(resource: Resource) -> Iterable[Hashable]:
    return () if type(resource).exclusive is Resource.exclusive or resource.exclusive is None else (resource.exclusive,)


Announcer = Literal["rtnetlink", "nftables", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Everything about one kind of resource. Fields without a default must be set for every kind.

    `satisfies(observed, desired, previous)`: `previous` is the resource that the kernel was last told, for fields that
    the kernel changes by itself (a peer's endpoint). Key, order and cost of change are defined in `schema/plan`.
    """

    name: str
    marker: int | str
    """The mark of an observed object that is ours, see `Observed.marker`."""
    stands_on: frozenset[str]
    """The kinds whose changes or deletions also delete or move objects of this kind."""
    announced_by: Announcer
    """Who announces changes. Kinds that nobody announces are read every few seconds."""
    messages: tuple[int, int] | None = None
    """The rtnetlink message types for a new or changed object, and for a deleted one."""
    part_of: str = ""
    """The kind that this one is a part of, with the same owner; its key begins with the key of the whole."""
    waits: bool = False
    """Whether applying it may wait for another process. Such kinds are not applied on the fast path."""
    dumped_by: Literal["kind", "device"] = "kind"
    """What one dump covers: the whole kind, or one device (the first element of the key)."""
    satisfies: Callable[[Observed[Resource], Resource, Resource | None], bool] = equal
    aim: Callable[[Observed[Resource], Resource, Resource | None], Resource] = as_desired
    """The target of a change to an observed object: the desired resource, except that fields which the kernel may move
    by itself (the endpoint of a roaming peer) keep their value. Use it as `Change.after`."""
    claims: Callable[[Resource], Iterable[Hashable]] = what_is_exclusive
    """What only one object of this kind may have: a port, a peer's allowed IPs on its device."""

    def __post_init__(self) -> None:
        if (self.announced_by == "rtnetlink") != (self.messages is not None):
            raise TypeError(f"{self.name}: rtnetlink announces by messages, and only rtnetlink does")

    def owns(self, observed: Observed[Resource]) -> bool:
        return observed.marker == self.marker


@dataclass(frozen=True, slots=True)
class Failure:
    """A change that the kernel, or a service, refused."""

    change: Change
    code: str
    """The reason in one word: an errno(3) name (`ENODEV`) or a service's own; empty if a tool gave none."""
    message: str
    retry_after: float | None = None
    """Seconds until another try makes sense; None if unknown."""


class Driver(Protocol[R]):
    """The effects of one kind. Only drivers access the kernel."""

    def observe(self) -> Sequence[Observed[R]]:
        """Every object of this kind on the host, ours and foreign ones. Raises OSError."""
        ...

    def apply(self, changes: Sequence[Change]) -> Sequence[Failure]:
        """Apply the changes in their order, in as few messages as possible.

        Idempotent: creating an equal existing object and deleting a missing one succeed. Every change that is not in
        the result was applied. Raises only OSError, and only if nothing more can be known.
        """
        ...


class DeviceDriver(Driver[R], Protocol[R]):
    """The effects of a kind that is dumped by device."""

    def devices(self) -> Collection[str]:
        """The existing devices. Raises OSError."""
        ...

    def observe_on(self, devices: Collection[str]) -> Sequence[Observed[R]]:
        """Every object of this kind on these devices. Raises OSError."""
        ...
