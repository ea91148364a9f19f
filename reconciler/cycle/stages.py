"""One cycle as a list of stages, and what they look at.

observe -> compare -> baseline -> write_journal -> execute -> verify -> probe -> confirm
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reconciler.base.errors import Stalled, Waiting
from reconciler.base.line import Line
from reconciler.converge.converger import Converger
from reconciler.converge.diff import ChangeSet, Observation, ResourceName, name_of
from reconciler.converge.executor import Outcome
from reconciler.converge.layers import Composed
from reconciler.converge.wanted import Wanted
from reconciler.cycle.probes import Criteria, LiveTunnel, complaint
from reconciler.cycle.probing import Probing
from reconciler.cycle.unfinished import unfinished
from reconciler.report.report import Candidate, Report
from reconciler.state.journal import Journal, here
from reconciler.state.store import Confirmed, Store
from schema.plan import DEADLINE, Change, Resource

RETRY_DISK = 60.0
PROBE_SHARE, PROBE_MOST = 0.5, 60.0
"""How much of the deadline asking may take, and how many seconds."""
WAY_BACK = 5.0
"""Seconds of the deadline that are kept for restoring, or a fifth of it where that is less."""
LOST = "lost"
"""Stands in a journal for a confirmed plan that could not be read."""


@dataclass(slots=True)
class Cycle:
    """What the stages hand to each other."""

    report: Report
    target: Composed
    previous: Composed
    """What the kernel was led to last."""
    kinds: frozenset[str]
    confirmed: Composed | None = None
    """What is known to work, where that is not what the kernel was led to last."""
    candidate: Candidate | None = None
    """Set where the plan changes: then there is a journal, and a confirmation."""
    adopt: bool = False
    hold: bool = False
    devices: frozenset[str] | None = None
    """Where not everything that is dumped by device is looked at: the devices."""
    observed: Observation = field(default_factory=dict)
    changes: ChangeSet = field(default_factory=ChangeSet)
    outcome: Outcome = field(default_factory=Outcome)
    journaled: bool = False
    criteria: Criteria = field(default_factory=Criteria)
    started: float = 0.0
    """When the journal was written, on a monotonic clock."""
    pending: dict[ResourceName, Resource | None] = field(default_factory=dict)
    """What was owed when the kernel was compared last, of what that look covered, and what was wanted of it."""
    before: Composed = field(init=False)
    """`previous`, as it was when the cycle began."""

    def __post_init__(self) -> None:
        self.before = self.previous


@dataclass(slots=True)
class Trial:
    """A plan that is applied, and is confirmed once the far ends of some tunnels have followed."""

    cycle: Cycle
    candidate: Candidate
    waiting: list[LiveTunnel]
    until: float
    """On a monotonic clock: then they have had the time that they get."""

    @property
    def text(self) -> str:
        if not self.waiting:
            return "what lies behind the tunnels"
        more = f" and {len(self.waiting) - 1} more" if len(self.waiting) > 1 else ""
        return f"{self.waiting[0].text}{more}"


class Conflicted(Exception):  # noqa: N818 - a state of affairs
    """The new plan wants what is somebody else's: nothing is changed."""


class Stages:
    """The stages of a cycle on one host. Not thread-safe."""

    def __init__(
        self,
        *,
        store: Store,
        converger: Converger,
        wanted: Wanted,
        clock: Callable[[], float] = time.time,
        probing: Probing | None = None,
        line: Line | None = None,
        patience: float = 0.0,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`probing` asks what has to answer; `line` leads to the parent, which keeps the deadline; `patience` are the
        seconds in which the far end of a tunnel looks for commits."""
        self.store = store
        self.converger = converger
        self.wanted = wanted
        self.clock = clock
        self.probing = probing
        self.line = line or Line(None)
        self.patience = patience
        self.ticks = ticks
        self.trial: Trial | None = None

    def run(self, cycle: Cycle) -> None:
        if cycle.candidate is None:
            cycle.target = self.wanted.use(cycle.target)
        for stage in self.stages:
            self.converger.on_stage(stage.__name__)
            stage(cycle)

    @property
    def stages(self) -> tuple[Callable[[Cycle], None], ...]:
        """What a cycle does, in this order."""
        return (
            self.observe,
            self.compare,
            self.baseline,
            self.write_journal,
            self.execute,
            self.verify,
            self.probe,
            self.confirm,
        )

    # The stages

    def observe(self, cycle: Cycle) -> None:
        cycle.observed = self.converger.observe(cycle.kinds, cycle.devices)

    def compare(self, cycle: Cycle) -> None:
        cycle.changes = self._diff(cycle, cycle.observed)
        if cycle.hold:
            found, cycle.changes.changes = cycle.changes.changes, []
            cycle.report.held = {kind: [one for one in found if one.resource.kind == kind] for kind in cycle.kinds}
        cycle.report.conflicts = cycle.changes.conflicts
        cycle.report.satisfied_foreign = cycle.changes.satisfied_foreign
        if cycle.changes.conflicts and cycle.candidate:
            raise Conflicted

    def baseline(self, cycle: Cycle) -> None:
        """Which of the things that have to answer after a change do so before it.

        Loops and tunnels go on meanwhile: what they have moved is taken into account before anything is changed.
        """
        candidate, version = cycle.candidate, self.wanted.version
        observed, cycle.observed = cycle.observed, {}
        if candidate is None:
            return
        if self.probing is not None and not cycle.adopt and cycle.changes.changes:
            runtime = candidate.plan.runtime
            cycle.criteria = self.probing.before(cycle.confirmed or cycle.previous, cycle.target, runtime, observed)
            if self.wanted.version != version:
                cycle.target = self.wanted.compose(candidate.plan, candidate.digest)
                cycle.changes = self._diff(cycle, self.converger.observe(cycle.kinds))
        cycle.target = self.wanted.use(cycle.target)

    def write_journal(self, cycle: Cycle) -> None:
        """On disk before the first change: the plan, what will be confirmed, and that something is under way."""
        candidate = cycle.candidate
        if candidate is None:
            return
        old = cycle.report.confirmed
        before = LOST if cycle.report.state_error else old.digest if old else ""
        confirmed = Confirmed(candidate.digest, candidate.commit, self.clock())
        try:
            self.store.save_plan(candidate.digest, candidate.data)
            self.store.prepare(confirmed)
            if cycle.adopt:
                self.confirm(cycle)
            elif cycle.changes.changes:
                boot, netns = here()
                self.line.arm(until_late(candidate))
                cycle.started = self.ticks()
                self.store.begin(Journal(before, candidate.digest, candidate.commit, boot or "unknown", netns))
                cycle.journaled = True
        except OSError as error:
            raise Waiting(
                "Applied", "StateUnwritable", f"cannot write {self.store.folder}: {error.strerror}", RETRY_DISK
            ) from error

    def execute(self, cycle: Cycle) -> None:
        cycle.outcome = self.converger.execute(cycle.changes.changes)
        cycle.report.done.update(cycle.outcome.done)

    def verify(self, cycle: Cycle) -> None:
        """Look again until nothing of the plan is missing. What only an overlay misses fails nobody."""
        report, changes, outcome = cycle.report, cycle.changes.changes, cycle.outcome
        if cycle.candidate is None and report.mode in ("repair", "restore") and not report.rolled_back:
            report.repaired += changes
        while True:
            settled = self.converger.settle(
                changes,
                outcome,
                lambda seen, kinds, done: self._look_again(cycle, seen, kinds, done),
                lambda outcome: report.done.update(outcome.done),
                cycle.devices,
                lambda left: bool(self._missing(cycle, left)),
            )
            report.passes += settled.passes
            changes, outcome = settled.left, settled.outcome
            text = unfinished(changes, outcome.failures).message if changes else ""
            # A plan that cannot be had with what a loop has amended is had without it.
            given_up = [name for change in changes if self.wanted.give_up(name := name_of(change.resource), text)]
            if not given_up:
                break
            changes = self._diff(cycle, self.converger.observe(cycle.kinds)).changes
            outcome = self.converger.execute(changes)
            report.done.update(outcome.done)
        self._conclude(cycle, changes, outcome)

    def probe(self, cycle: Cycle) -> None:
        """What answered before has to answer now; where only a far end has yet to follow, the plan is on trial."""
        candidate, criteria = cycle.candidate, cycle.criteria
        if self.probing is None or candidate is None or not criteria:
            return
        failed = self.probing.after(criteria, self.probe_seconds(cycle))
        if failed:
            raise Stalled("Applied", "ProbeFailed", complaint(failed))
        waiting = self.probing.awaited(criteria.later)
        if waiting or criteria.later_checks:
            seconds = self.patience + until_late(candidate)
            self.line.arm(seconds + _deadline(candidate))
            self.trial = Trial(cycle, candidate, waiting, self.ticks() + seconds)

    def probe_seconds(self, cycle: Cycle) -> float:
        """How long asking may take. What is left of it after a slow change is never less than half."""
        assert cycle.candidate is not None
        most = min(PROBE_MOST, PROBE_SHARE * _deadline(cycle.candidate))
        return max(most / 2, most - (self.ticks() - cycle.started))

    def confirm(self, cycle: Cycle) -> None:
        candidate = cycle.candidate
        if candidate is None or self.trial is not None:
            return
        confirmed = Confirmed(candidate.digest, candidate.commit, self.clock())
        try:
            self.store.confirm(confirmed)
        except OSError as error:
            raise Waiting("Confirmed", "StateUnwritable", f"cannot confirm: {error.strerror}", RETRY_DISK) from error
        cycle.report.confirmed = confirmed
        cycle.report.state_error = None
        cycle.candidate = None
        self.wanted.confirm()

    # Inside

    def _diff(self, cycle: Cycle, observed: Observation) -> ChangeSet:
        """What to do, without what an owner that has not spoken yet may want, and without what is only overlays'."""
        devices, kinds = cycle.devices, self.converger.kinds

        def covered(name: ResourceName) -> bool:
            by_device = kinds[name[0]].dumped_by == "device"
            return name[0] in observed and (devices is None or not by_device or name[1][0] in devices)

        cycle.pending = self.wanted.pending(covered)
        previous = self.wanted.acknowledged(cycle.previous)
        found = self.converger.diff(cycle.target, observed, previous, adopt=cycle.adopt, devices=devices)
        found.changes = [change for change in found.changes if not self._awaits_owner(cycle, change)]
        cycle.report.unmet.clear()
        conflicts, found.conflicts = found.conflicts, []
        for conflict in conflicts:
            name = name_of(conflict.resource)
            if self._is_plans(cycle, name):
                found.conflicts.append(conflict)
            else:
                self._refuse(cycle, name, conflict.text)
        return found

    def _awaits_owner(self, cycle: Cycle, change: Change) -> bool:
        """Whether this would delete what a loop may still want. What a plan has named is never a loop's."""
        name = name_of(change.resource)
        return change.after is None and self.wanted.claimed(name) and not cycle.previous.names_in_plan(name)

    def _is_plans(self, cycle: Cycle, name: ResourceName) -> bool:
        """Whether the plan, or the one before it, has it: what else is different is no fault of a commit."""
        return cycle.target.names_in_plan(name) or cycle.before.names_in_plan(name)

    def _missing(self, cycle: Cycle, left: Iterable[Change]) -> list[Change]:
        return [change for change in left if self._is_plans(cycle, name_of(change.resource))]

    def _refuse(self, cycle: Cycle, name: ResourceName, text: str) -> None:
        self.wanted.refuse(name, text)
        cycle.report.unmet[name] = text

    def _look_again(self, cycle: Cycle, observed: Observation, kinds: frozenset[str], outcome: Outcome) -> list[Change]:
        if not outcome.failures and not outcome.outdated:
            # Everything was set once; what the kernel moves on its own from here on is no difference.
            cycle.previous = cycle.target
            self.wanted.settle_as(cycle.pending)
        found = self._diff(cycle, observed)
        if cycle.candidate and found.conflicts:
            raise Stalled("Applied", "Conflict", found.conflicts[0].text)
        return found.changes

    def _conclude(self, cycle: Cycle, left: list[Change], outcome: Outcome) -> None:
        """Fail for what the plan misses, and tell owners what they miss."""
        names = {name_of(change.resource) for change in left}
        if not cycle.hold:
            self.wanted.settle_as({name: want for name, want in cycle.pending.items() if name not in names})
        repaired = cycle.report.repaired
        cycle.report.repaired = [one for one in repaired if name_of(one.resource) not in names]
        missing = self._missing(cycle, left)
        if missing:
            lost = {name_of(change.resource) for change in missing}
            raise unfinished(missing, [one for one in outcome.failures if name_of(one.change.resource) in lost])
        for change in left:
            name = name_of(change.resource)
            own = [one for one in outcome.failures if name_of(one.change.resource) == name]
            self._refuse(cycle, name, unfinished([change], own).message)


def _deadline(candidate: Candidate) -> float:
    return candidate.plan.runtime.deadline or DEADLINE


def until_late(candidate: Candidate) -> float:
    """Seconds until it is too late to go on: the rest of the deadline is for the way back."""
    seconds = _deadline(candidate)
    return seconds - min(WAY_BACK, seconds / 5)
