"""One generic keyed diff for every kind: what is desired against what the kernel holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.kinds.base import Kind, Observed
from schema.plan import Change, Key, Peer, Resource, Runtime

Kinds = Mapping[str, Kind]
Observation = Mapping[str, Sequence[Observed[Any]]]
"""What the drivers saw, by kind. A kind that is missing was not looked at, and is left alone."""
ByKey = Mapping[Key, Resource]

HINT = "gitwan agent adopt"
ON_DEVICE = ("wireguard", "peer")
"""Kinds that are a part of the device whose link they stand on."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that the plan wants and that cannot be had without taking what is somebody else's."""

    resource: Resource
    there: str
    """What stands in the way, in one line."""
    hint: str = HINT

    @property
    def text(self) -> str:
        ending = f" ({self.hint})" if self.hint else ""
        return f"{self.resource.kind} {self.resource.describe()}: {self.there}{ending}"


@dataclass(frozen=True, slots=True)
class Desired:
    """What a host should hold, by kind and key, and where its owners contradict each other."""

    by_kind: Mapping[str, ByKey]
    clashes: tuple[Conflict, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)
    """What the plan says to the agent itself."""

    @classmethod
    def of(
        cls,
        resources: Iterable[Resource],
        overlays: Mapping[str, Iterable[Resource]] | None = None,
        runtime: Runtime | None = None,
    ) -> Desired:
        """The plan's resources and every overlay's, each overlay under its owner's name."""
        by_kind: dict[str, dict[Key, Resource]] = {}
        clashes: list[Conflict] = []
        owners: dict[tuple[str, Key], str] = {}
        for owner, wanted in [("the plan", resources), *sorted((overlays or {}).items())]:
            for resource in wanted:
                of_kind = by_kind.get(resource.kind)
                if of_kind is None:
                    of_kind = by_kind[resource.kind] = {}
                key = resource.key
                if of_kind.setdefault(key, resource) is not resource:
                    other = owners.get((resource.kind, key), "the plan")
                    clashes.append(Conflict(resource, f"wanted by both {other} and {owner}", ""))
                elif owner != "the plan":
                    owners[resource.kind, key] = owner
        clashes += _allowed_ip_clashes(by_kind.get("peer", {}))
        return cls(by_kind, tuple(clashes), runtime or Runtime())

    def kind(self, name: str) -> ByKey:
        return self.by_kind.get(name, {})


NOTHING = Desired({})


@dataclass(slots=True)
class ChangeSet:
    """What to do, what stands in the way, and what somebody else already did."""

    changes: list[Change] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    satisfied_foreign: list[Resource] = field(default_factory=list)


def diff(desired: Desired, observed: Observation, previous: Desired, kinds: Kinds, *, adopt: bool = False) -> ChangeSet:
    """What turns `observed` into `desired`, for the kinds that were observed.

    `previous` is what was confirmed last: the kernel moves some fields on its own (a peer's endpoint), and those are
    set again only where the plan itself changed them. `adopt` takes over what is foreign and wanted.
    """
    result = ChangeSet(conflicts=list(desired.clashes))
    foreign = foreign_devices(observed, kinds)
    taken = foreign & {key[0] for key in desired.kind("link")} if adopt else set()
    for name, seen in observed.items():
        part = _Part(kinds[name], desired.kind(name), previous.kind(name), adopt).run(seen, taken)
        if name in ON_DEVICE:
            _keep_off(part, foreign - taken)
        result.changes += part.changes
        result.conflicts += part.conflicts
        result.satisfied_foreign += part.satisfied_foreign
    return result


def foreign_devices(observed: Observation, kinds: Kinds) -> set[str | int]:
    """The names of the links that are not ours."""
    links = observed.get("link", ())
    owns = kinds["link"].owns if links else None
    return {link.resource.key[0] for link in links if owns and not owns(link)}


class _Part:
    """The diff of one kind."""

    def __init__(self, kind: Kind, desired: ByKey, previous: ByKey, adopt: bool) -> None:
        self.kind = kind
        self.desired = desired
        self.previous = previous
        self.adopt = adopt
        self.result = ChangeSet()

    def run(self, seen: Sequence[Observed[Any]], taken: set[str | int]) -> ChangeSet:
        mine, foreign, surplus = self._sort(seen)
        changes = self.result.changes
        satisfies, aim = self.kind.satisfies, self.kind.aim
        for key, want in self.desired.items():
            own = mine.pop(key, None)
            if own is not None:
                before = self.previous.get(key)
                if not satisfies(own, want, before):
                    changes.append(Change(own.resource, aim(own, want, before)))
            elif (theirs := foreign.pop(key, None)) is not None:
                self._meet(theirs, want)
            else:
                changes.append(Change(None, want))
        surplus += mine.values()
        if taken and self.kind.name in ON_DEVICE:
            # An adopted device is adopted whole: peers on it that nobody wants go too.
            surplus += [other for key, other in foreign.items() if key[0] in taken]
        surplus.sort(key=lambda gone: gone.resource.key)
        changes.extend(Change(gone.resource, None) for gone in surplus)
        return self.result

    def _sort(
        self, seen: Sequence[Observed[Any]]
    ) -> tuple[dict[Key, Observed[Any]], dict[Key, Observed[Any]], list[Observed[Any]]]:
        """Ours by key, others' by key, and what of ours has a key that another of ours has too."""
        mine: dict[Key, Observed[Any]] = {}
        foreign: dict[Key, Observed[Any]] = {}
        surplus: list[Observed[Any]] = []
        owns = self.kind.owns
        for one in seen:
            key = one.resource.key
            side = mine if owns(one) else foreign
            there = side.setdefault(key, one)
            if there is one:
                continue
            if not self._fits(there, key) and self._fits(one, key):
                side[key], one = one, there
            if side is mine:
                surplus.append(one)
        return mine, foreign, surplus

    def _fits(self, one: Observed[Any], key: Key) -> bool:
        want = self.desired.get(key)
        return want is not None and self.kind.satisfies(one, want, self.previous.get(key))

    def _meet(self, theirs: Observed[Any], want: Resource) -> None:
        """Somebody else's object has the key of one that is wanted."""
        if self.adopt:
            after = self.kind.aim(theirs, want, self.previous.get(want.key))
            self.result.changes.append(Change(theirs.resource, after))
        elif self.kind.satisfies(theirs, want, self.previous.get(want.key)):
            self.result.satisfied_foreign.append(want)
        else:
            self.result.conflicts.append(Conflict(want, f"somebody else's is there: {theirs.resource.describe()}"))


def _keep_off(part: ChangeSet, foreign: set[str | int]) -> None:
    """Turn changes of WireGuard state on devices that are not ours into conflicts."""
    kept: list[Change] = []
    for change in part.changes:
        device = change.resource.key[0]
        if device in foreign:
            part.conflicts.append(Conflict(change.resource, f"device {device} is somebody else's"))
        else:
            kept.append(change)
    part.changes = kept


def _allowed_ip_clashes(peers: ByKey) -> Iterator[Conflict]:
    """The kernel gives an allowed IP to the last peer that claims it, silently: find those claims before."""
    holders: dict[tuple[str, str], Peer] = {}
    for peer in peers.values():
        assert isinstance(peer, Peer)
        for prefix in peer.allowed_ips:
            first = holders.setdefault((peer.dev, prefix), peer)
            if first is not peer:
                who = first.name or first.public_key
                yield Conflict(peer, f"{prefix} is also an allowed IP of {who} on {peer.dev}", "")
