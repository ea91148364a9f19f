"""Reads, compares and changes resources through drivers. It knows nothing of journals or of the host's network."""

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
"""Maximum number of passes for missing resources: replacing a link, for example, deletes its addresses and routes."""
LONGEST = 20
"""After this many passes, those that other changes made outdated are counted too."""


@dataclass(slots=True)
class Settled:
    """The result of a change set: the number of passes, and the remaining differences."""

    passes: int = 0
    left: list[Change] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


class Converger:
    """Works on any set of kinds and drivers. Not thread-safe."""

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
        """`batch` limits the changes per driver call, and `on_stage` is called before each call. `covered` gets the
        kinds that are about to be read, `seen` what was read. `refine` may alter the changes before they are applied.
        `version` grows with what is wanted; changes computed for an older version are abandoned. `wait` is the time in
        seconds until a change can be observed."""
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
        """The kind whose driver is working. It may wait meanwhile, and must not be called again before it returns."""
        self._wait = wait
        self._sleep = sleep
        self._ticks = ticks
        self._pace = Pace()
        self._spent = 0.0
        """Seconds that the last reading spent on devices."""

    @property
    def all_kinds(self) -> frozenset[str]:
        return frozenset(self.drivers)

    def widen(self, kinds: Iterable[str]) -> frozenset[str]:
        """The kinds, their dependents, and the kinds that tell who owns them."""
        return companions(dependents(kinds, self.kinds), self.kinds) & self.all_kinds

    def beside(self, kinds: Iterable[str]) -> frozenset[str]:
        """The kinds, and the kinds that tell who owns them."""
        return companions(kinds, self.kinds) & self.all_kinds

    def carries(self, kind: str) -> bool:
        """Whether other kinds depend on this one, and are deleted or moved with it."""
        return any(kind in other.stands_on for other in self.kinds.values())

    def devices_due(self) -> frozenset[str]:
        """The devices to read now; a device with more objects is due less often. Raises Transient."""
        name = next((name for name in self.drivers if self.kinds[name].dumped_by == "device"), "")
        if not name:
            return frozenset()
        try:
            there = self._by_device(name).devices()
        except OSError as error:
            raise _unreadable(error) from error
        return self._pace.due({*there, *self.mirror.devices(name)}, self._ticks())

    def look(self, kinds: frozenset[str], devices: Collection[str] | None = None) -> Observation:
        """Read these kinds; kinds that are dumped by device only on these devices. Raises Transient."""
        self._spent = 0.0
        try:
            found = {name: self._observe(name, devices) for name in self.drivers if name in kinds}
        except OSError as error:
            raise _unreadable(error) from error
        self.mirror.take(found, devices)
        self._seen(found)
        return found

    def observe(self, kinds: frozenset[str], devices: Collection[str] | None = None) -> Observation:
        """Read for a comparison. Changes that were announced before are covered by this reading. Raises Transient."""
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
        """Apply the changes. The mirror is in doubt until the next reading. Raises OSError from a driver."""
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
        """Apply a few changes, and update the mirror with the acknowledged ones. Raises OSError from a driver."""
        kinds = {change.resource.kind for change in changes}
        try:
            outcome = execute(changes, self.drivers)
        except OSError:
            self.mirror.doubt(kinds)
            raise
        refused = {name_of(failure.change.resource) for failure in outcome.failures}
        self.mirror.doubt({kind for kind, _ in refused})  # some of them may have been applied
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
        """Read and apply again until nothing is missing: a later pass repairs what the first one broke or could not do.

        `compare` returns the remaining differences, `done` is called after each further pass, and `worth` decides
        whether the remaining differences are worth another pass. Raises Transient or OSError.
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
