"""Reads, compares and changes what its drivers stand for. It knows of no plan's journal, and of no host's network."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

from reconciler.base.errors import Transient
from reconciler.converge.diff import ChangeSet, Desired, Kinds, Observation, diff, name_of
from reconciler.converge.executor import Drivers, Outcome, execute
from reconciler.converge.mirror import Mirror
from reconciler.converge.pace import Pace
from reconciler.kinds import companions, dependents
from reconciler.kinds.base import DeviceDriver, Observed
from reconciler.system.aside import Aside
from schema.plan import Change

PASSES = 3
"""How often to execute what is still missing: a link that is replaced takes its addresses and routes with it."""
LONGEST = 20
"""Passes after which those count too that others made outdated."""


@dataclass(slots=True)
class Settled:
    """What became of a change set: how often it took to look, and what is still different."""

    passes: int = 0
    left: list[Change] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


class Converger:
    """One host's, or whatever else has kinds and drivers. Not thread-safe."""

    def __init__(
        self,
        drivers: Drivers,
        kinds: Kinds,
        *,
        batch: int | None = None,
        on_stage: Callable[[str], None] = lambda name: None,
        covered: Callable[[frozenset[str]], None] = lambda kinds: None,
        refine: Callable[[list[Change]], list[Change]] = lambda changes: changes,
        seen: Callable[[Observation], None] = lambda observation: None,
        aside: Aside = nullcontext,
        version: Callable[[], int] = lambda: 0,
        wait: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`batch` bounds the changes of one driver call, and `on_stage` is called before each. `covered` hears which
        kinds are about to be read, and `seen` what was read; `refine` has the last word on what is done. `version`
        grows with what is wanted: changes that were computed before are not gone on with. `wait` are the seconds from
        a change until it shows."""
        self.drivers = drivers
        self.kinds = kinds
        self.batch = batch
        self.on_stage = on_stage
        self.mirror = Mirror(kinds)
        self._covered = covered
        self._refine = refine
        self._seen = seen
        self._aside = aside
        self._version = version
        self.busy: str | None = None
        """The kind whose driver is at work. It may wait meanwhile, and is not to be called twice at once."""
        self._wait = wait
        self._sleep = sleep
        self._ticks = ticks
        self._pace = Pace()
        self._spent = 0.0
        """Seconds that the last look took for devices."""

    @property
    def all_kinds(self) -> frozenset[str]:
        return frozenset(self.drivers)

    def widen(self, kinds: Iterable[str]) -> frozenset[str]:
        """The kinds, what a change of them may have moved, and what tells whose they are."""
        return companions(dependents(kinds, self.kinds), self.kinds) & self.all_kinds

    def beside(self, kinds: Iterable[str]) -> frozenset[str]:
        """The kinds, and what tells whose they are."""
        return companions(kinds, self.kinds) & self.all_kinds

    def carries(self, kind: str) -> bool:
        """Whether others stand on this kind, and go or move with it."""
        return any(kind in other.stands_on for other in self.kinds.values())

    def devices_due(self) -> frozenset[str]:
        """The devices whose turn it is: the more there is on one, the less often. Raises Transient."""
        name = next((name for name in self.drivers if self.kinds[name].dumped_by == "device"), "")
        if not name:
            return frozenset()
        try:
            there = self._by_device(name).devices()
        except OSError as error:
            raise _unreadable(error) from error
        return self._pace.due({*there, *self.mirror.devices(name)}, self._ticks())

    def look(self, kinds: frozenset[str], devices: Collection[str] | None = None) -> Observation:
        """What there is of these kinds; of those that are dumped by device, on these devices. Raises Transient."""
        self._spent = 0.0
        try:
            found = {name: self._observe(name, devices) for name in self.drivers if name in kinds}
        except OSError as error:
            raise _unreadable(error) from error
        self.mirror.take(found, devices)
        self._seen(found)
        return found

    def observe(self, kinds: frozenset[str], devices: Collection[str] | None = None) -> Observation:
        """A look that is compared with what is wanted: what was announced until now is covered by it."""
        self._covered(kinds)
        found = self.look(kinds, devices)
        largest: dict[str, int] = {}
        for name in found:
            if self.kinds[name].dumped_by == "device":
                counts = self.mirror.counts(name, self.mirror.devices(name) if devices is None else devices)
                largest |= {device: max(count, largest.get(device, 0)) for device, count in counts.items()}
        if largest:
            # Comparing takes about as long as reading.
            self._pace.took(largest, 2 * self._spent, self._ticks())
        return found

    def _by_device(self, name: str) -> DeviceDriver[Any]:
        return cast(DeviceDriver[Any], self.drivers[name])

    def _observe(self, name: str, devices: Collection[str] | None) -> Sequence[Observed[Any]]:
        driver = self.drivers[name]
        if self.kinds[name].dumped_by != "device":
            return driver.observe()
        began = self._ticks()
        found = driver.observe() if devices is None else self._by_device(name).observe_on(devices)
        self._spent += self._ticks() - began
        return found

    def diff(
        self,
        target: Desired,
        observed: Observation,
        previous: Desired,
        *,
        adopt: bool = False,
        devices: Collection[str] | None = None,
    ) -> ChangeSet:
        found = diff(target, observed, previous, self.kinds, adopt=adopt, devices=devices)
        found.changes = self._refine(found.changes)
        return found

    def execute(self, changes: list[Change]) -> Outcome:
        """Apply the changes; the mirror is in doubt until the next look. Raises OSError where a driver does."""
        self.mirror.doubt(self.widen({change.resource.kind for change in changes}))
        version = self._version()

        def between(kind: str) -> bool:
            self.on_stage("apply")
            self.busy = kind
            return self._version() == version

        try:
            outcome = execute(changes, self.drivers, batch=self.batch, between=between)
        finally:
            self.busy = None
        outcome.outdated |= self._version() != version
        return outcome

    def deliver(self, changes: list[Change]) -> Outcome:
        """Apply a few changes, and have the mirror follow what was acknowledged. Raises OSError where a driver does."""
        kinds = {change.resource.kind for change in changes}
        try:
            outcome = execute(changes, self.drivers)
        except OSError:
            self.mirror.doubt(kinds)
            raise
        refused = {name_of(failure.change.resource) for failure in outcome.failures}
        self.mirror.doubt({kind for kind, _ in refused})  # some of it may have been done
        self.mirror.acknowledge(change for change in changes if name_of(change.resource) not in refused)
        return outcome

    def settle(
        self,
        changes: list[Change],
        outcome: Outcome,
        compare: Callable[[Observation, frozenset[str], Outcome], list[Change]],
        done: Callable[[Outcome], None] = lambda outcome: None,
        devices: Collection[str] | None = None,
        worth: Callable[[list[Change]], bool] = bool,
    ) -> Settled:
        """Look again until nothing is missing; what a first pass broke or could not do yet, a later one repairs.

        `compare` says what is still different, `done` hears of each further pass, and `worth` says whether what is left
        is worth one. Raises Transient or OSError.
        """
        found = Settled(outcome=outcome)
        tries_left = PASSES
        while changes:
            found.passes += 1
            if not found.outcome.outdated or found.passes > LONGEST:
                tries_left -= 1
            if self._wait:
                with self._aside():
                    self._sleep(self._wait)
            kinds = self.widen({change.resource.kind for change in changes})
            changes = found.left = compare(self.observe(kinds, devices), kinds, found.outcome)
            if tries_left <= 0 or not worth(changes):
                break
            found.outcome = self.execute(changes)
            done(found.outcome)
        return found


def _unreadable(error: OSError) -> Transient:
    return Transient("Applied", "ObserveFailed", f"cannot read the kernel's state: {error}")
