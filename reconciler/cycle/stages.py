"""The stages of one cycle, and their data.

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
"""Probing may take at most this share of the deadline, and this many seconds."""
WAY_BACK = 5.0
"""Seconds of the deadline reserved for the rollback; a fifth of the deadline if that is less."""
LOST = "lost"
"""In a journal: the confirmed plan could not be read."""


@dataclass(slots=True)
class Cycle:
    """The data that the stages pass on."""

    report: Report
    target: Composed
    previous: Composed
    """The plan that was applied to the kernel last."""
    kinds: frozenset[str]
    confirmed: Composed | None = None
    """The plan that is known to work, if it is not `previous`."""
    candidate: Candidate | None = None
    """Set if the plan changes: then the cycle writes a journal and confirms."""
    adopt: bool = False
    hold: bool = False
    devices: frozenset[str] | None = None
    """The devices to read, for kinds that are dumped by device; None reads all of them."""
    observed: Observation = field(default_factory=dict)
    changes: ChangeSet = field(default_factory=ChangeSet)
    outcome: Outcome = field(default_factory=Outcome)
    journaled: bool = False
    criteria: Criteria = field(default_factory=Criteria)
    started: float = 0.0
    """When the journal was written, on a monotonic clock, in seconds."""
    pending: dict[ResourceName, Resource | None] = field(default_factory=dict)
    """What was owed and covered by the last comparison, with the resource wanted at that time."""
    before: Composed = field(init=False)
    """`previous` at the start of the cycle."""

    def __post_init__(self) -> None:
        self.before = self.previous


@dataclass(slots=True)
class Trial:
    """A plan that is applied, and is confirmed once the far ends of some tunnels have followed."""

    cycle: Cycle
    candidate: Candidate
    waiting: list[LiveTunnel]
    until: float
    """The end of the far ends' time, on a monotonic clock, in seconds."""

    @property
    def text(self) -> str:
        if not self.waiting:
            return "what lies behind the tunnels"
        more = f" and {len(self.waiting) - 1} more" if len(self.waiting) > 1 else ""
        return f"{self.waiting[0].text}{more}"


class Conflicted(Exception):  # noqa: N818 - a state of affairs
    """The new plan wants something that another program owns: nothing is changed."""


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
        """`probing` asks the criteria. `line` leads to the parent, which enforces the deadline. `patience` is the far
        end's poll interval for commits, in seconds."""
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
        """The stages in their order."""
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
        """Find which of the criteria are met before the change.

        Loops and tunnels keep running meanwhile; their changes are taken into account before anything is applied.
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
        """Write to disk, before the first change: the plan, what will be confirmed, and that a change is under way."""
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
        """Read and repair until nothing of the plan is missing. A difference only in overlays fails no commit."""
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
            # If the plan cannot be applied with a loop's amendment, it is applied without it.
            given_up = [name for change in changes if self.wanted.give_up(name := name_of(change.resource), text)]
            if not given_up:
                break
            changes = self._diff(cycle, self.converger.observe(cycle.kinds)).changes
            outcome = self.converger.execute(changes)
            report.done.update(outcome.done)
        self._conclude(cycle, changes, outcome)

    def probe(self, cycle: Cycle) -> None:
        """Check what answered before. If only a far end has yet to follow, the plan is put on trial."""
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
        """The time for probing, in seconds. A slow change shortens it, but at most by half."""
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
        """The changes to make, without deletions that wait for an owner, and without conflicts of overlays alone."""
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
        """Whether this deletes something that a loop may still want. A resource of the previous plan never is."""
        name = name_of(change.resource)
        return change.after is None and self.wanted.claimed(name) and not cycle.previous.names_in_plan(name)

    def _is_plans(self, cycle: Cycle, name: ResourceName) -> bool:
        """Whether the plan or the previous one names it. Other differences are not the commit's fault."""
        return cycle.target.names_in_plan(name) or cycle.before.names_in_plan(name)

    def _missing(self, cycle: Cycle, left: Iterable[Change]) -> list[Change]:
        return [change for change in left if self._is_plans(cycle, name_of(change.resource))]

    def _refuse(self, cycle: Cycle, name: ResourceName, text: str) -> None:
        self.wanted.refuse(name, text)
        cycle.report.unmet[name] = text

    def _look_again(self, cycle: Cycle, observed: Observation, kinds: frozenset[str], outcome: Outcome) -> list[Change]:
        if not outcome.failures and not outcome.outdated:
            # Everything was set once: what the kernel changes by itself from now on is no difference.
            cycle.previous = cycle.target
            self.wanted.settle_as(cycle.pending)
        found = self._diff(cycle, observed)
        if cycle.candidate and found.conflicts:
            raise Stalled("Applied", "Conflict", found.conflicts[0].text)
        return found.changes

    def _conclude(self, cycle: Cycle, left: list[Change], outcome: Outcome) -> None:
        """Raise an error for what the plan lacks, and tell owners what they lack."""
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
    """Seconds until it is too late to go on: the rest of the deadline is reserved for the rollback."""
    seconds = _deadline(candidate)
    return seconds - min(WAY_BACK, seconds / 5)
