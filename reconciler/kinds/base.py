"""What the agent knows about a kind of resource without touching the kernel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from schema.plan import Change, Resource

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


def equal(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    return observed.resource == desired


def as_desired(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> Resource:
    return desired


def what_is_exclusive(resource: Resource) -> Iterable[Hashable]:
    return () if type(resource).exclusive is Resource.exclusive or resource.exclusive is None else (resource.exclusive,)


Announcer = Literal["rtnetlink", "nftables", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """All that is known about one kind of resource. What has no default has to be said of every kind.

    `satisfies(observed, desired, previous)`: `previous` is the same resource as the kernel was told it last, for fields
    that the kernel moves on its own (a peer's endpoint). Key, order and cost of change stand in `schema/plan`.
    """

    name: str
    marker: int | str
    """What stands on an observed one that is ours, see `Observed.marker`."""
    stands_on: frozenset[str]
    """The kinds that take this one along, or move it, when one of theirs goes or changes."""
    announced_by: Announcer
    """Who says that one has come, changed or gone. What nobody announces is looked at every few seconds."""
    messages: tuple[int, int] | None = None
    """The types of rtnetlink's messages for one that is new or changed, and for one that has gone."""
    part_of: str = ""
    """The kind of which it is a part, with the same owner; its key begins with that of the whole."""
    waits: bool = False
    """Whether applying it may wait for another process: then it is no matter of the fast lane."""
    dumped_by: Literal["kind", "device"] = "kind"
    """What is read at once: all of the kind, or all on one device (the first word of the key)."""
    satisfies: Callable[[Observed[Resource], Resource, Resource | None], bool] = equal
    aim: Callable[[Observed[Resource], Resource, Resource | None], Resource] = as_desired
    """What a change of an observed object should lead to: the desired resource, but with what the kernel may move
    on its own (the endpoint of a peer that roamed) left where it is. Use it as `Change.after`."""
    claims: Callable[[Resource], Iterable[Hashable]] = what_is_exclusive
    """What only one of this kind may have: a port, a peer's allowed IPs on its device."""

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
    """Why, in one word: as errno(3) names it (`ENODEV`), or as a service does; empty where a tool gave none."""
    message: str
    retry_after: float | None = None
    """Seconds after which it is worth another try; None where that is not known."""


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


class DeviceDriver(Driver[R], Protocol[R]):
    """The effects of a kind that is dumped by device."""

    def devices(self) -> Collection[str]:
        """The devices that there are. Raises OSError."""
        ...

    def observe_on(self, devices: Collection[str]) -> Sequence[Observed[R]]:
        """Every object of this kind on some of the devices. Raises OSError."""
        ...
