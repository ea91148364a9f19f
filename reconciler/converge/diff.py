"""One generic keyed diff for every kind: compares desired resources with what the kernel holds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.kinds.base import Kind, Observed
from schema.plan import Change, Key, Resource

Kinds = Mapping[str, Kind]
Observation = Mapping[str, Sequence[Observed[Any]]]
"""What the drivers read, by kind. A kind that is missing was not read, and is left alone."""
ByKey = Mapping[Key, Resource]

ResourceName = tuple[str, Key]
"""The name of a resource: its kind and key."""

HINT = "gitwan agent adopt"


def name_of(resource: Resource) -> ResourceName:
    return resource.kind, resource.key


@dataclass(frozen=True, slots=True)
class Conflict:
    """A resource that the plan wants, but can only get by taking what another program owns."""

    resource: Resource
    there: str
    """The obstacle, in one line."""
    hint: str = HINT

    @property
    def text(self) -> str:
        ending = f" ({self.hint})" if self.hint else ""
        return f"{self.resource.kind} {self.resource.describe()}: {self.there}{ending}"


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired resources by kind and key, and the contradictions among them."""

    by_kind: Mapping[str, ByKey]
    clashes: tuple[Conflict, ...] = ()

    @classmethod
    def of(cls, resources: Iterable[Resource], kinds: Kinds) -> Desired:
        by_kind: dict[str, dict[Key, Resource]] = {}
        clashes: list[Conflict] = []
        for resource in resources:
            of_kind = by_kind.setdefault(resource.kind, {})
            if of_kind.setdefault(resource.key, resource) is not resource:
                clashes.append(Conflict(resource, "wanted twice", ""))
        clashes += (clash for name, of_kind in by_kind.items() for clash in claim_all(kinds[name], of_kind, {}))
        return cls(by_kind, tuple(clashes))

    def kind(self, name: str) -> ByKey:
        return self.by_kind.get(name, {})


@dataclass(slots=True)
class ChangeSet:
    """The changes to make, the conflicts, and the foreign resources that already satisfy the plan."""

    changes: list[Change] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    satisfied_foreign: list[Resource] = field(default_factory=list)


def diff(
    desired: Desired,
    observed: Observation,
    previous: Desired,
    kinds: Kinds,
    *,
    adopt: bool = False,
    devices: Collection[str] | None = None,
) -> ChangeSet:
    """The changes that turn `observed` into `desired`, for the observed kinds.

    `previous` is what the kernel was last told. The kernel moves some fields by itself (a peer's endpoint); those are
    set again only if their desired value has changed. `adopt` takes over foreign resources that are wanted. If
    `devices` is given, kinds that are dumped by device are compared only on these devices.
    """
    result = ChangeSet(conflicts=list(desired.clashes))
    for name, seen in observed.items():
        kind, wanted = kinds[name], desired.kind(name)
        if devices is not None and kind.dumped_by == "device":
            wanted = {key: want for key, want in wanted.items() if key[0] in devices}
        foreign = _foreign(kind.part_of, observed, kinds)
        taken = foreign & {key[0] for key in desired.kind(kind.part_of)} if adopt else set()
        part = _Part(kind, wanted, previous.kind(name), adopt).run(seen, taken)
        _keep_off(part, foreign - taken)
        result.changes += part.changes
        result.conflicts += part.conflicts
        result.satisfied_foreign += part.satisfied_foreign
    return result


def _foreign(whole: str, observed: Observation, kinds: Kinds) -> set[str | int]:
    """The first key elements of foreign objects of a kind that has parts."""
    return {one.resource.key[0] for one in observed.get(whole, ()) if not kinds[whole].owns(one)}


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
        if taken:
            # Adoption is complete: unwanted parts, such as peers of an adopted device, are deleted.
            surplus += [other for key, other in foreign.items() if key[0] in taken]
        surplus.sort(key=lambda gone: gone.resource.key)  # for readers: the kernel's order is arbitrary
        changes.extend(Change(gone.resource, None) for gone in surplus)
        return self.result

    def _sort(
        self, seen: Sequence[Observed[Any]]
    ) -> tuple[dict[Key, Observed[Any]], dict[Key, Observed[Any]], list[Observed[Any]]]:
        """Our objects by key, foreign ones by key, and those of ours whose key another of ours already has."""
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
        """Handle a foreign object that has the key of a wanted one."""
        if self.adopt:
            after = self.kind.aim(theirs, want, self.previous.get(want.key))
            self.result.changes.append(Change(theirs.resource, after))
        elif self.kind.satisfies(theirs, want, self.previous.get(want.key)):
            self.result.satisfied_foreign.append(want)
        else:
            self.result.conflicts.append(Conflict(want, f"somebody else's is there: {theirs.resource.describe()}"))


def _keep_off(part: ChangeSet, foreign: set[str | int]) -> None:
    """Turn changes to parts of foreign objects into conflicts."""
    if not foreign:
        return
    kept: list[Change] = []
    for change in part.changes:
        name = change.resource.key[0]
        if name in foreign:
            part.conflicts.append(Conflict(change.resource, f"device {name} is somebody else's"))
        else:
            kept.append(change)
    part.changes = kept


def claim_all(kind: Kind, resources: ByKey, held: dict[Hashable, Key]) -> Iterator[Conflict]:
    """Record the exclusive claims of all resources of a kind. Yields a conflict for each claim made twice."""
    for key, resource in resources.items():
        for claim in kind.claims(resource):
            holder = held.setdefault(claim, key)
            if holder is not key:
                yield Conflict(resource, f"{claim_text(claim)} is also claimed by {resources[holder].label}", "")


def claim_text(claim: Hashable) -> str:
    """The claim as text."""
    return str(claim[-1]) if isinstance(claim, tuple) else str(claim)
