"""One cycle as a list of stages, and what they look at.

observe -> compare -> baseline -> write_journal -> execute -> verify -> probe -> confirm
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reconciler import groups, takeover
from reconciler.diff import NOTHING, ChangeSet, Desired, Kinds, Observation, diff
from reconciler.endpoints import Heard
from reconciler.errors import CycleError, Stalled, Transient, Waiting
from reconciler.executor import Drivers, Outcome, execute
from reconciler.journal import Journal, here
from reconciler.kinds.base import Failure, Observed
from reconciler.parent import Line
from reconciler.probes import Criteria, Tunnel, complaint
from reconciler.probing import Prober, Probing
from reconciler.report import Candidate, Mode, Report
from reconciler.state import Confirmed, Store
from reconciler.verify import companions, dependents, unfinished
from schema.plan import DEADLINE, Change, Exit, HostPlan, Key, Resource, Watch
from schema.plan import diff as plan_diff
from schema.quiet import quiet_gc

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


class Stages:
    """The stages of a cycle on one host. Not thread-safe."""

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
        self._plans: dict[str, HostPlan] = {}
        """The plan that was read last: what is alive changes more often than it does."""
        self._heard = Heard()
        self._awaited: frozenset[Key] = frozenset()
        """Peers of new keys that take over when they have a session."""
        self._taking_over: frozenset[Key] = frozenset()
        self._behind: frozenset[str] = frozenset()
        """Kinds in which the kernel has not followed a loop or a session yet."""
        self._by_life: frozenset[str] = groups.KINDS
        """Kinds that a tunnel's life or death moves."""
        self._alive: frozenset[str] = frozenset()
        """Tunnels that carry traffic, of the links that were looked at."""
        self._out: frozenset[str] = frozenset()
        self._looked_at: frozenset[str] = frozenset()
        self.watches: tuple[Watch, ...] = ()
        """The tunnels to probe, as the plan in force has them."""
        self.exits: tuple[Exit, ...] = ()
        """The exits to find gateways for, as the plan in force has them."""
        self.newest: str | None = None
        """The newest commit that is known, whatever became of it."""
        self.line = line or Line(None)
        self.patience = patience
        self.ticks = ticks
        self.probing = Probing(prober, self._peers, self._routes, ticks) if prober else None
        self.trial: Trial | None = None

    def _converge(self, cycle: Cycle) -> None:
        for stage in self.stages:
            self.on_stage(stage.__name__)
            stage(cycle)
        self.watches = cycle.target.runtime.watches or ()
        self._by_life = groups.kinds(cycle.target.runtime)
        if not cycle.hold:
            self.exits = cycle.target.runtime.exits or ()
        # A link that comes again some day is looked at anew.
        devs = {tunnel.dev for watch in self.watches for tunnel in watch.tunnels}
        self._looked_at &= {watch.name for watch in self.watches}
        self._alive, self._out = self._alive & devs, self._out & devs

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
            found, cycle.changes.changes = cycle.changes.changes, []
            cycle.report.held = {kind: [one for one in found if one.resource.kind == kind] for kind in cycle.kinds}
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
            if sessions != self._taking_over:
                self._taking_over = sessions
                self._behind |= self._widen(takeover.KINDS)
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
        """Replace the resources that `owner` wants beside the plan's; none withdraws them. `follow` applies that."""
        before, self._overlays[owner] = self._overlays.get(owner, ()), tuple(resources)
        changed = plan_diff(before, self._overlays[owner])
        self._behind |= companions(frozenset(change.resource.kind for change in changed))
        self._desired.clear()

    @property
    def alive(self) -> frozenset[str]:
        """The tunnels that carry traffic, of those that are watched."""
        return self._alive

    @property
    def idle(self) -> frozenset[str]:
        """Tunnels that are watched and carry nothing: those that are new, until they have answered, and dead ones."""
        return frozenset(tunnel.dev for watch in self.watches for tunnel in watch.tunnels) - self._alive

    @property
    def out(self) -> frozenset[str]:
        """Tunnels that were found dead when they were first looked at: whoever probed before had left them out."""
        return self._out

    def set_alive(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        """Which of the watched tunnels are alive now; `follow` moves the traffic."""
        now = self._alive - frozenset(watched) | alive
        if now != self._alive:
            self._alive = now
            self._behind |= self._by_life
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
            if digest not in self._plans:
                self._plans = {digest: self.store.load_plan(digest)}
            self._desired[digest] = self._wanted(self._plans[digest])
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
        """The plan, with what a new key's tunnels have taken over, groups of what is alive, and the overlays."""
        if awaited := takeover.awaited(plan):
            self._awaited, behind = awaited, self._behind
            self._peers()  # which of them are up is known from here on, and is in what is wanted
            self._behind = behind
        for watch in plan.runtime.watches or ():
            if watch.name not in self._looked_at:
                self._looked_at |= {watch.name}
                kinds = {"link", "peer"} | groups.kinds(plan.runtime)
                alive, out = groups.standing(plan, watch, self._look(self.all_kinds & kinds))
                self._alive, self._out = self._alive | alive, self._out | out
        wanted = groups.resources(plan, takeover.resources(plan, self._taking_over), self._alive)
        return Desired.of(wanted, self._overlays, plan.runtime)

    @contextmanager
    def _reporting(self, mode: Mode) -> Iterator[Report]:
        """A report that is filled in on every way out."""
        report = Report(mode)
        started = time.perf_counter()
        with quiet_gc():
            try:
                yield report
            except (CycleError, OSError) as error:
                found = as_cycle_error(error)
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


def as_cycle_error(error: CycleError | OSError) -> CycleError:
    if isinstance(error, CycleError):
        return error
    return Transient("Applied", "SystemError", str(error))
