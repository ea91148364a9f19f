"""One cycle, as a list of stages, and the way back.

    ACQUIRE   fetch -> compile_plan                 (`acquire.py`: slow, and touches nothing of this host's network)
    CONVERGE  observe -> compare -> baseline -> write_journal -> execute -> verify -> probe -> confirm

Rolling back is no second mechanism: it is CONVERGE towards the last confirmed plan.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reconciler import takeover
from reconciler.diff import NOTHING, ChangeSet, Desired, Kinds, Observation, diff
from reconciler.endpoints import Heard
from reconciler.errors import CycleError, Stalled, Transient, Waiting
from reconciler.executor import Drivers, Outcome, execute
from reconciler.journal import Journal, here
from reconciler.kinds.base import Failure, Observed
from reconciler.parent import Line
from reconciler.probes import Check, Criteria, Tunnel, complaint
from reconciler.probing import Prober, Probing
from reconciler.report import Acquired, Candidate, Mode, Report
from reconciler.state import Confirmed, Rejected, Store
from reconciler.verify import companions, dependents, unfinished
from schema.plan import DEADLINE, Change, HostPlan, Key, Resource

PASSES = 3
"""How often to execute what is still missing: a link that is replaced takes its addresses and routes with it."""
RETRY_DISK = 60.0
PROBE_SHARE, PROBE_MOST = 0.5, 60.0
"""How much of the deadline asking may take, and how many seconds."""
WAY_BACK = 5.0
"""Seconds of the deadline that are kept for restoring, or a fifth of it where that is less."""
INTERRUPTIONS = 2
"""How often a commit may be cut off by a reboot before it is rejected."""
LOST = "lost"
"""Stands in a journal for a confirmed plan that could not be read."""


@dataclass(slots=True)
class Cycle:
    """What the stages hand to each other."""

    report: Report
    target: Desired
    previous: Desired
    kinds: frozenset[str]
    candidate: Candidate | None = None
    """Set where the plan changes: then there is a journal, and a confirmation."""
    adopt: bool = False
    hold: bool = False
    observed: Observation = field(default_factory=dict)
    changes: ChangeSet = field(default_factory=ChangeSet)
    outcome: Outcome = field(default_factory=Outcome)
    journaled: bool = False
    criteria: Criteria = field(default_factory=Criteria)
    started: float = 0.0
    """When the journal was written, on a monotonic clock."""


@dataclass(slots=True)
class Trial:
    """A plan that is applied, and is confirmed once the far ends of some tunnels have followed."""

    cycle: Cycle
    candidate: Candidate
    waiting: list[Tunnel]
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


class Engine:
    """Brings one host to its plan. Not thread-safe."""

    def __init__(
        self,
        *,
        store: Store,
        drivers: Drivers,
        kinds: Kinds,
        clock: Callable[[], float] = time.time,
        batch: int | None = None,
        on_stage: Callable[[str], None] = lambda name: None,
        on_observe: Callable[[frozenset[str]], None] = lambda kinds: None,
        prober: Prober | None = None,
        line: Line | None = None,
        patience: float = 0.0,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`batch` bounds the changes of one driver call; `on_stage` is called before every stage and every driver
        call, `on_observe` with the kinds that are about to be read and repaired. `prober` asks what has to answer;
        `line` leads to the parent, which keeps the deadline; `patience` are the seconds in which the far end of a
        tunnel looks for commits."""
        self.store = store
        self.drivers = drivers
        self.kinds = kinds
        self.clock = clock
        self.batch = batch
        self.on_stage = on_stage
        self.on_observe = on_observe
        self.observed: Observation = {}
        """What was seen of WireGuard last, for status."""
        self._overlays: dict[str, tuple[Resource, ...]] = {}
        self._desired: dict[str, Desired] = {}
        self._heard = Heard()
        self._awaited: frozenset[Key] = frozenset()
        """Peers of new keys that take over when they have a session."""
        self._taking_over: frozenset[Key] = frozenset()
        self._moving = False
        """A takeover has come up or gone, and traffic has not followed yet."""
        self.newest: str | None = None
        """The newest commit that is known, whatever became of it."""
        self.line = line or Line(None)
        self.patience = patience
        self.ticks = ticks
        self.probing = Probing(prober, self._peers, self._routes, ticks) if prober else None
        self.trial: Trial | None = None

    # Converging

    def restore(self, because: str = "") -> Report:
        """Bring back the last confirmed plan from disk, undoing what an interrupted change left. No git, no network.

        `because` says what the parent has seen become of the change: then its commit is not tried again.
        """
        with self._reporting("restore") as report:
            journal = self.store.journal()
            report.confirmed = self.store.confirmed()
            if journal and report.confirmed and journal.to_digest == report.confirmed.digest:
                journal = None  # it was confirmed; only the journal's end was missed
                self.store.end()
            if journal is None and report.confirmed is None:
                report.nothing_to_do = True
                return report
            came_from = journal.from_digest if journal and journal.boot else ""
            if came_from == LOST:
                raise Stalled("Confirmed", "StateLost", "a change was interrupted, and what was before is not known")
            wanted = report.confirmed.digest if report.confirmed else came_from
            previous = self._stored(wanted)
            if journal is not None:
                report.rolled_back = True
                self._interrupted(journal.commit, because)
                previous = self._perhaps(journal.to_digest)
            self._converge(Cycle(report, self._stored(wanted), previous, self.all_kinds))
            self.store.end()
            self._desired = {wanted: self._stored(wanted)}
        return report

    def converge(
        self,
        acquired: Acquired | None = None,
        *,
        kinds: Iterable[str] | None = None,
        cascade: bool = True,
        adopt: bool = False,
        hold: bool = False,
    ) -> Report:
        """Apply what was acquired; where that is nothing new, repair what drifted from the confirmed plan.

        With `hold` nothing is touched: what would be done is counted.

        `kinds` limits the look to what an event touched and, with `cascade`, to what depends on that. `adopt` takes
        ownership of what is wanted and somebody else's; it goes only forward, because a way back would delete what
        was adopted.
        """
        candidate = acquired.candidate if acquired and not hold else None
        if self.trial and candidate and self.trial.candidate.commit == candidate.commit:
            candidate = None  # it is applied already
        mode: Mode = "adopt" if adopt else "apply" if candidate else "repair"
        with self._reporting(mode) as report:
            report.acquired = acquired
            if acquired and acquired.commit:
                self.newest = acquired.commit
            report.partial = kinds is not None
            report.newest = self.newest
            wanted = self.all_kinds
            if kinds is not None:
                wanted &= self._widen(kinds) if cascade else companions(frozenset(kinds))
            try:
                report.confirmed = self.store.confirmed()
            except Stalled as error:
                report.state_error = error
                if candidate is None:
                    return report
            if candidate is not None:
                self.trial = None  # a newer commit takes its place
            known = self._known(report)
            if candidate is not None:
                self._try(candidate, report, known, wanted, adopt)
            elif known is not None:
                self._converge(Cycle(report, known, known, wanted, adopt=adopt, hold=hold))
                if not report.partial and self.trial is None:
                    self.store.end()
            else:
                report.nothing_to_do = True
        return report

    def follow(self) -> Report | None:
        """Move traffic to the tunnels of a new key that have come up, and away from those that are lost."""
        if not self._moving:
            return None
        self._moving = False
        self._desired.clear()
        with self._reporting("move") as report:
            report.partial = True
            report.newest = self.newest
            report.confirmed = self.store.confirmed()
            if self.trial is not None:
                self.trial.cycle.target = self._index(self.trial.candidate)
            if (known := self._known(report)) is not None:
                self._converge(Cycle(report, known, known, self._widen(takeover.KINDS)))
        return report

    def preview(self, acquired: Acquired | None = None, *, adopt: bool = False) -> ChangeSet:
        """What `converge` would do. Raises CycleError where even that is not known."""
        with quiet_gc():
            report = Report(confirmed=self.confirmed_or_none())
            known = self._known(report) or NOTHING
            candidate = acquired.candidate if acquired else None
            target = self._index(candidate) if candidate else known
            return diff(target, self._look(self.all_kinds), known, self.kinds, adopt=adopt)

    def adoption(self, acquired: Acquired | None = None) -> list[Change]:
        """What adopting would take over, beside what is done anyway. Raises CycleError."""
        anyway = set(self.preview(acquired).changes)
        return [change for change in self.preview(acquired, adopt=True).changes if change not in anyway]

    def removal(self) -> ChangeSet:
        """What `remove` would do."""
        return diff(NOTHING, self._look(self.all_kinds), NOTHING, self.kinds)

    def remove(self) -> Report:
        """Give the host back: all that is ours goes, what was changed is put back, nothing stays confirmed."""
        with self._reporting("remove") as report:
            self.store.forget_confirmed()
            self._overlays.clear()
            self._desired.clear()
            self.trial = None
            self._converge(Cycle(report, NOTHING, NOTHING, self.all_kinds))
            self.store.end()
            report.nothing_to_do = True
        return report

    def _try(
        self, candidate: Candidate, report: Report, known: Desired | None, kinds: frozenset[str], adopt: bool
    ) -> None:
        """Apply a new plan; on a failure go back to the known one and remember the commit as rejected."""
        cycle = Cycle(report, self._index(candidate), known or NOTHING, kinds, candidate, adopt)
        try:
            self._converge(cycle)
        except Conflicted:
            # The new plan has to wait for a person; what is confirmed is still looked after.
            if known is not None:
                conflicts, foreign = report.conflicts, report.satisfied_foreign
                self._converge(Cycle(report, known, known, kinds))
                self.store.end()  # of a plan on trial, which this one would have replaced
                report.conflicts = conflicts + [c for c in report.conflicts if c not in conflicts]
                report.satisfied_foreign = foreign
        except (CycleError, OSError) as error:
            if not cycle.journaled:
                raise
            report.error = _as_cycle_error(error)
            self._roll_back(cycle, known, candidate)
        finally:
            if self.trial is None:
                self.line.disarm()

    def judge(self) -> Report | None:
        """Look whether the plan on trial has proved itself, or its time is over. None where there is nothing to say."""
        trial = self.trial
        if trial is None or self.probing is None:
            return None
        trial.waiting = self.probing.awaited(trial.waiting)
        if trial.waiting and self.ticks() < trial.until:
            return None
        self.trial = None
        cycle = trial.cycle
        with self._reporting("apply") as report:
            cycle.report, cycle.candidate = report, trial.candidate
            report.newest = self.newest
            report.confirmed = self.store.confirmed()
            failed: list[Check | Tunnel] = list(trial.waiting)
            failed += self.probing.after(Criteria(checks=cycle.criteria.later_checks), self._probe_seconds(cycle))
            try:
                if failed:
                    raise Stalled("Applied", "ProbeFailed", complaint(failed))
                self.confirm(cycle)
            except (CycleError, OSError) as error:
                report.error = _as_cycle_error(error)
                self._roll_back(cycle, self._known(report), trial.candidate)
        self.line.disarm()
        return report

    def _roll_back(self, failed: Cycle, known: Desired | None, candidate: Candidate) -> None:
        report = failed.report
        assert report.error is not None
        if report.state_error is None:
            try:
                self._converge(Cycle(report, known or NOTHING, failed.target, self.all_kinds))
                self.store.end()
                report.rolled_back = True
            except (CycleError, OSError) as error:
                report.error.message += f"; going back failed too: {_as_cycle_error(error).message}"
        if not isinstance(report.error, Waiting):
            self._reject(candidate.commit, report.error)

    def _interrupted(self, commit: str, because: str) -> None:
        """A change was cut off. What the parent has seen to fail is rejected; a reboot may have had any reason."""
        if not commit:
            return
        count = self.store.interrupted(commit)
        if because:
            self._reject(commit, Stalled("Applied", "CutOff", because))
        elif count >= INTERRUPTIONS:
            text = f"it was cut off {count} times in mid-change, by a reboot or a kill"
            self._reject(commit, Stalled("Applied", "CutOff", text))

    def _reject(self, commit: str, error: CycleError) -> None:
        rejected = Rejected(commit, error.reason, error.message, self.clock())
        try:
            self.store.reject(rejected)
        except OSError:
            pass  # the store remembers it until the agent ends

    def _converge(self, cycle: Cycle) -> None:
        for stage in self.stages:
            self.on_stage(stage.__name__)
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
        self.on_observe(cycle.kinds)
        cycle.observed = self._look(cycle.kinds)

    def compare(self, cycle: Cycle) -> None:
        cycle.changes = self._diff(cycle, cycle.observed)
        if cycle.hold:
            cycle.report.held, cycle.changes.changes = len(cycle.changes.changes), []
        cycle.report.conflicts = cycle.changes.conflicts
        cycle.report.satisfied_foreign = cycle.changes.satisfied_foreign
        if cycle.changes.conflicts and cycle.candidate:
            raise Conflicted

    def baseline(self, cycle: Cycle) -> None:
        """Which of the things that have to answer after a change do so before it."""
        observed, cycle.observed = cycle.observed, {}
        candidate = cycle.candidate
        if self.probing is None or candidate is None or cycle.adopt or not cycle.changes.changes:
            return
        cycle.criteria = self.probing.before(cycle.previous, cycle.target, candidate.plan.runtime, observed)

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
                self.line.arm(_until_late(candidate))
                cycle.started = self.ticks()
                self.store.begin(Journal(before, candidate.digest, candidate.commit, boot or "unknown", netns))
                cycle.journaled = True
        except OSError as error:
            raise Waiting(
                "Applied", "StateUnwritable", f"cannot write {self.store.folder}: {error.strerror}", RETRY_DISK
            ) from error

    def execute(self, cycle: Cycle) -> None:
        report = cycle.report
        if cycle.candidate is None and report.mode in ("repair", "restore") and not report.rolled_back:
            report.repaired += cycle.changes.changes
        cycle.outcome = self._execute(cycle)

    def verify(self, cycle: Cycle) -> None:
        """Look again until nothing is missing; what a first pass broke or could not do yet, a later one repairs."""
        for left in reversed(range(PASSES)):
            if not cycle.changes.changes:
                return
            cycle.report.passes += 1
            if not cycle.outcome.failures:
                # Everything was set once; what the kernel moves on its own from here on is no difference.
                cycle.previous = cycle.target
            kinds = self._widen({change.resource.kind for change in cycle.changes.changes})
            self.on_observe(kinds)
            rest = self._diff(cycle, self._look(kinds))
            if cycle.candidate and rest.conflicts:
                raise Stalled("Applied", "Conflict", rest.conflicts[0].text)
            if rest.changes and not left:
                raise unfinished(rest.changes, cycle.outcome.failures)
            cycle.changes = rest
            cycle.outcome = self._execute(cycle)

    def probe(self, cycle: Cycle) -> None:
        """What answered before has to answer now; where only a far end has yet to follow, the plan is on trial."""
        candidate, criteria = cycle.candidate, cycle.criteria
        if self.probing is None or candidate is None or not criteria:
            return
        failed = self.probing.after(criteria, self._probe_seconds(cycle))
        if failed:
            raise Stalled("Applied", "ProbeFailed", complaint(failed))
        waiting = self.probing.awaited(criteria.later)
        if waiting or criteria.later_checks:
            seconds = self.patience + _until_late(candidate)
            self.line.arm(seconds + _deadline(candidate))
            self.trial = Trial(cycle, candidate, waiting, self.ticks() + seconds)

    def _probe_seconds(self, cycle: Cycle) -> float:
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
        self._desired = {candidate.digest: cycle.target}

    def _diff(self, cycle: Cycle, observed: Observation) -> ChangeSet:
        found = diff(cycle.target, observed, cycle.previous, self.kinds, adopt=cycle.adopt)
        found.changes = self._heard.recall(found.changes)
        return found

    def _execute(self, cycle: Cycle) -> Outcome:
        changes = cycle.changes.changes
        outcome = execute(changes, self.drivers, batch=self.batch, between=lambda: self.on_stage("apply"))
        cycle.report.done.update(outcome.done)
        return outcome

    # Looking and indexing

    @property
    def all_kinds(self) -> frozenset[str]:
        return frozenset(self.drivers)

    def _widen(self, kinds: Iterable[str]) -> frozenset[str]:
        return companions(dependents(kinds, self.all_kinds)) & self.all_kinds

    def _look(self, kinds: frozenset[str]) -> Observation:
        try:
            seen = {name: self.drivers[name].observe() for name in self.drivers if name in kinds}
        except OSError as error:
            raise Transient("Applied", "ObserveFailed", f"cannot read the kernel's state: {error}") from error
        if "peer" in seen:
            self._heard.note(seen["peer"])
            self.observed = {name: seen[name] for name in ("peer", "link") if name in seen}
            sessions = takeover.up(self._awaited, seen)
            self._moving |= sessions != self._taking_over
            self._taking_over = sessions
        return seen

    def set_endpoints(self, changes: Iterable[Change]) -> list[Failure]:
        """Point peers at what their names resolve to now. Raises OSError."""
        return execute(changes, self.drivers).failures

    def confirmed_or_none(self) -> Confirmed | None:
        try:
            return self.store.confirmed()
        except Stalled:
            return None

    def confirmed_resources(self) -> Desired:
        """The confirmed plan and the overlays, as they should stand in the kernel. Raises Stalled."""
        return self._known(Report(confirmed=self.store.confirmed())) or NOTHING

    def set_overlay(self, owner: str, resources: Iterable[Resource]) -> None:
        """Replace the resources that `owner` wants beside the plan's; none withdraws them."""
        self._overlays[owner] = tuple(resources)
        self._desired.clear()

    def _peers(self) -> Sequence[Observed[Any]]:
        return self._look(companions(frozenset({"peer"})) & self.all_kinds).get("peer", ())

    def _routes(self) -> Sequence[Observed[Any]]:
        return self._look(frozenset({"route"})).get("route", ())

    def _known(self, report: Report) -> Desired | None:
        """The plan to keep: the one on trial, or the confirmed one; where that is lost, the report says so."""
        if self.trial is not None:
            return self.trial.cycle.target
        if report.confirmed is None:
            return None
        try:
            return self._stored(report.confirmed.digest)
        except Stalled as error:
            report.state_error = error
            return None

    def _stored(self, digest: str) -> Desired:
        if not digest:
            return Desired.of((), self._overlays)
        if digest not in self._desired:
            self._desired[digest] = self._wanted(self.store.load_plan(digest))
        return self._desired[digest]

    def _perhaps(self, digest: str) -> Desired:
        try:
            return self._stored(digest)
        except Stalled:
            return NOTHING

    def _index(self, candidate: Candidate) -> Desired:
        if candidate.digest in self._desired:
            return self._desired[candidate.digest]
        return self._wanted(candidate.plan)

    def _wanted(self, plan: HostPlan) -> Desired:
        """The plan, with what a new key's tunnels have taken over, and the overlays."""
        if awaited := takeover.awaited(plan):
            self._awaited = awaited
            self._peers()  # which of them are up is known from here on
            self._moving = False
        return Desired.of(takeover.resources(plan, self._taking_over), self._overlays)

    @contextmanager
    def _reporting(self, mode: Mode) -> Iterator[Report]:
        """A report that is filled in on every way out."""
        report = Report(mode)
        started = time.perf_counter()
        with quiet_gc():
            try:
                yield report
            except (CycleError, OSError) as error:
                found = _as_cycle_error(error)
                if found.condition == "Confirmed" and isinstance(found, Stalled):
                    report.state_error = found
                else:
                    report.error = found
        report.seconds = time.perf_counter() - started


def _deadline(candidate: Candidate) -> float:
    return candidate.plan.runtime.deadline or DEADLINE


def _until_late(candidate: Candidate) -> float:
    """Seconds until it is too late to go on: the rest of the deadline is for the way back."""
    seconds = _deadline(candidate)
    return seconds - min(WAY_BACK, seconds / 5)


def _as_cycle_error(error: CycleError | OSError) -> CycleError:
    if isinstance(error, CycleError):
        return error
    return Transient("Applied", "SystemError", str(error))


@contextmanager
def quiet_gc() -> Iterator[None]:
    """No garbage collection while tens of thousands of objects that all stay are made."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
