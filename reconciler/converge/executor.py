"""Passes a change set to the drivers, in an order that never interrupts what is still needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from reconciler.kinds.base import Driver, Failure
from schema.plan import Change, Key, Resource

Drivers = Mapping[str, Driver[Any]]
Batch = tuple[str, list[Change]]


@dataclass(slots=True)
class Outcome:
    """What was applied, counted by (kind, verb), and what the kernel refused."""

    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    outdated: bool = False
    """Another thread changed something meanwhile; the remaining changes were not applied and need a new comparison."""

    @property
    def operations(self) -> int:
        return self.done.total()

    def add(self, changes: Sequence[Change], failures: Sequence[Failure]) -> None:
        self.done.update((change.resource.kind, change.verb) for change in changes)
        for failure in failures:
            self.done[failure.change.resource.kind, failure.change.verb] -= 1
        self.failures += failures


def execute(
    changes: Iterable[Change],
    drivers: Drivers,
    *,
    batch: int | None = None,
    between: Callable[[str], bool] = lambda kind: True,
) -> Outcome:
    """Apply every change, with one driver call per kind and direction, or per `batch` changes.

    `between` is called with the kind before each driver call, and returns whether to continue. A refused change does
    not stop the others: the next diff shows what is missing. Raises OSError from a driver.
    """
    outcome = Outcome()
    for kind, ordered in plan_batches(changes):
        step = batch or len(ordered)
        for start in range(0, len(ordered), step):
            part = ordered[start : start + step]
            if not between(kind):
                outcome.outdated = True
                return outcome
            outcome.add(part, drivers[kind].apply(part))
    return outcome


def plan_batches(changes: Iterable[Change]) -> list[Batch]:
    """Order creates and changes by ascending rank, then deletes by descending rank: add before delete.

    A delete that frees an exclusive key for a create is moved into the create's batch, before it.
    """
    up: list[Change] = []
    down: list[Change] = []
    # Within a kind, sort by key, whatever the input order: a group's key is greater than those of its members.
    for change in sorted(changes, key=lambda change: (*_rank(change), change.resource.key)):
        (up if change.after is not None else down).append(change)
    up, down = _free_first(up, down)
    up.sort(key=_rank)  # stable: a change that frees a key stays before the one that takes it
    down.reverse()
    return [*_by_kind(up), *_by_kind(down)]


def _rank(change: Change) -> tuple[int, str]:
    resource = change.resource
    return (resource.rank, resource.kind)


def _by_kind(changes: list[Change]) -> Iterator[Batch]:
    for kind, group in groupby(changes, key=lambda change: change.resource.kind):
        yield kind, list(group)


def _exclusive(resource: Resource | None) -> tuple[str, Key] | None:
    if resource is None or type(resource).exclusive is Resource.exclusive:
        return None
    key = resource.exclusive
    return None if key is None else (resource.kind, key)


def _free_first(up: list[Change], down: list[Change]) -> tuple[list[Change], list[Change]]:
    """Move changes that free an exclusive key before those that take it; break a cycle with a delete and a create."""
    taken = {key for change in up if (key := _exclusive(change.after)) and key != _exclusive(change.before)}
    if not taken:
        return up, down
    early = [change for change in down if _exclusive(change.before) in taken]
    late = [change for change in down if _exclusive(change.before) not in taken]
    movers = [change for change in up if _exclusive(change.after)]
    others = [change for change in up if not _exclusive(change.after)]
    return [*others, *early, *_chain(movers)], late


def _chain(movers: list[Change]) -> list[Change]:
    """Order changes so that each takes only a key that is already free."""
    held = {key: change for change in movers if (key := _exclusive(change.before))}
    ordered: list[Change] = []
    waiting = movers
    while waiting:
        blocked: list[Change] = []
        for change in waiting:
            holder = held.get(_exclusive(change.after) or ("", ()))
            if holder is not None and holder is not change:
                blocked.append(change)
                continue
            ordered.append(change)
            held.pop(_exclusive(change.before) or ("", ()), None)
        if len(blocked) == len(waiting):
            first = blocked[0]
            ordered.append(Change(first.before, None))
            held.pop(_exclusive(first.before) or ("", ()), None)
            blocked[0] = Change(None, first.after)
        waiting = blocked
    return ordered
