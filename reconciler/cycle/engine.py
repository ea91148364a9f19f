"""Which cycle is run, and the way back.

    ACQUIRE   fetch -> verify -> compile_plan       (`acquire.py`: slow, and touches nothing of this host's network)
    CONVERGE  the stages of a cycle                 (`cycle.py`)

Rolling back is no second mechanism: it is CONVERGE towards the last confirmed plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.base.errors import CycleError, Stalled, Transient, Waiting
from reconciler.base.line import Line
from reconciler.converge import groups, takeover
from reconciler.converge.converger import Converger
from reconciler.converge.diff import ChangeSet, Desired, Kinds, Name, Observation, name_of
from reconciler.converge.endpoints import Heard
from reconciler.converge.executor import Drivers
from reconciler.converge.lane import Lane
from reconciler.converge.layers import NOTHING, Composed
from reconciler.converge.mirror import Mirror
from reconciler.converge.wanted import Amend, Refused, Scope, Wanted
from reconciler.cycle.probes import Check, Criteria, Tunnel, complaint
from reconciler.cycle.probing import Prober, Probing
from reconciler.cycle.stages import INTERRUPTIONS, LOST, Conflicted, Cycle, Stages, Trial, as_cycle_error
from reconciler.cycle.verify import unfinished
from reconciler.kinds.base import Failure, Observed
from reconciler.kinds.peer import is_name
from reconciler.report.report import Acquired, Candidate, Mode, Report
from reconciler.state.store import Confirmed, Rejected, Store
from schema.plan import Change, HostPlan, Key, Peer, Resource, Runtime
from schema.quiet import quiet_gc

ADOPTION = 60.0
"""Seconds after the start in which an owner has to say what it wants of what lives in its scopes."""


class Engine:
    """Brings one host to its plan, and back where that fails. Whoever calls it holds the lane."""

    def __init__(
        self,
        *,
        store: Store,
        drivers: Drivers,
        kinds: Kinds,
        clock: Callable[[], float] = time.time,
        batch: int | None = None,
        on_stage: Callable[[str], None] = lambda name: None,
        covered: Callable[[frozenset[str]], None] = lambda kinds: None,
        prober: Prober | None = None,
        line: Line | None = None,
        patience: float = 0.0,
        ticks: Callable[[], float] = time.monotonic,
        lane: Lane | None = None,
    ) -> None:
        """`batch` bounds the changes of one driver call; `on_stage` is called before every stage and every driver
        call, `covered` with the kinds that are about to be read and repaired. `prober` asks what has to answer;
        `line` leads to the parent, which keeps the deadline; `patience` are the seconds in which the far end of a
        tunnel looks for commits."""
        self.store = store
        self.clock = clock
        self.ticks = ticks
        self.lane = lane or Lane()
        self.wanted = Wanted(kinds)
        self._heard = Heard()
        self.converger = Converger(
            drivers,
            kinds,
            batch=batch,
            on_stage=on_stage,
            covered=covered,
            refine=self._heard.recall,
            seen=self._saw,
            aside=self.lane.aside,
            version=lambda: self.wanted.version,
            ticks=ticks,
        )
        self.probing = Probing(prober, self._peers, self._routes, ticks, self.lane.aside) if prober else None
        self.stages = Stages(
            store=store,
            converger=self.converger,
            wanted=self.wanted,
            clock=clock,
            probing=self.probing,
            line=line,
            patience=patience,
            ticks=ticks,
        )
        self.runtime = Runtime()
        """What the plan in force says to loops. While the agent is suspended it stays as it was."""
        self.newest: str | None = None
        """The newest commit that is known, whatever became of it."""
        self._awaited: frozenset[Key] = frozenset()
        """Peers of new keys that take over when they have a session."""
        self._looked_at: frozenset[str] = frozenset()
        """The links whose tunnels' life is known."""
        self._out: frozenset[str] = frozenset()
        self._confirmed: Confirmed | None = None
        self._later: frozenset[str] = frozenset()
        """The kinds to look at, which `follow` has left."""
        self._adopted_by: float | None = None
        """When whoever has not spoken wants nothing, on a monotonic clock; counted from the first cycle."""
        self._adopting = True

    # What others ask of it

    @property
    def line(self) -> Line:
        return self.stages.line

    @property
    def trial(self) -> Trial | None:
        """A plan that is applied, and not confirmed yet."""
        return self.stages.trial

    @trial.setter
    def trial(self, trial: Trial | None) -> None:
        self.stages.trial = trial

    @property
    def all_kinds(self) -> frozenset[str]:
        return self.converger.all_kinds

    @property
    def mirror(self) -> Mirror:
        """What the kernel held when it was read last."""
        return self.converger.mirror

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
            target = previous = self._stored(report.confirmed.digest if report.confirmed else came_from)
            if journal is not None:
                report.rolled_back = True
                self._interrupted(journal.commit, because)
                previous = self._perhaps(journal.to_digest)
            self._converge(Cycle(report, target, previous, self.all_kinds))
            self.store.end()
            self.wanted.confirm()
        return report

    def converge(
        self,
        acquired: Acquired | None = None,
        *,
        kinds: Iterable[str] | None = None,
        cascade: bool = True,
        devices: frozenset[str] | None = None,
        adopt: bool = False,
        hold: bool = False,
    ) -> Report:
        """Apply what was acquired; where that is nothing new, repair what drifted from the confirmed plan.

        With `hold` nothing is touched: what would be done is counted.

        `kinds` limits the look to what an event touched and, with `cascade`, to what depends on that; `devices` limits
        it further, for kinds that are dumped by device. `adopt` takes ownership of what is wanted and somebody else's;
        it goes only forward, because a way back would delete what was adopted.
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
                wanted &= self.converger.widen(kinds) if cascade else self.converger.beside(kinds)
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
                self._converge(Cycle(report, known, known, wanted, adopt=adopt, hold=hold, devices=devices))
                if not report.partial and self.trial is None and not hold:
                    self.store.end()
            else:
                report.nothing_to_do = True
        return report

    def follow(self) -> Report | None:
        """Give the kernel what loops, tunnels and sessions have changed since; None where nothing is owed.

        The few things that changed are compared with the mirror and applied; the next look verifies. What may have to
        wait for a process, may have moved more than it named, or was refused is left for `catch_up`.
        """
        owed = self._quick(self.wanted.owed)
        if not owed or self.wanted.current.digest == "":
            return None
        with self._reporting("move") as report:
            report.partial = True
            report.newest = self.newest
            report.confirmed = self._confirmed
            with self.lane.firmly():
                self._deliver(report, owed)
        return report

    def catch_up(self) -> Report | None:
        """Look at what `follow` has left; None where that is nothing. It may take as long as a cycle, and is one."""
        kinds, self._later = self._later, frozenset()
        if not kinds or self.wanted.current.digest == "":
            return None
        with self._reporting("move") as report:
            report.partial = True
            report.newest = self.newest
            report.confirmed = self._confirmed
            current = self.wanted.current
            self._converge(Cycle(report, current, current, kinds & self.all_kinds))
        return report

    @property
    def behind(self) -> bool:
        """Whether there is anything to catch up with."""
        return bool(self._later)

    def _quick(self, owed: Iterable[Name]) -> list[Name]:
        """What of that can be given to the kernel at once; the rest is for a cycle."""
        kinds = self.converger.kinds
        slow = {kind for kind, _ in owed if kinds[kind].waits}
        later = self.converger.widen(slow) if slow else frozenset()
        if self.converger.busy is not None:
            # A driver that waits in the middle of a cycle is not to be called again, nor what stands on its work.
            later |= self.converger.widen({self.converger.busy})
        self._later |= {kind for kind, _ in owed if kind in later}
        return [name for name in owed if name[0] not in later]

    def _deliver(self, report: Report, owed: list[Name]) -> None:
        """The fast lane."""
        current, kinds = self.wanted.current, self.converger.kinds
        wholes = {(whole, key[:1]) for kind, key in owed if (whole := kinds[kind].part_of)}
        names = list({*owed, *wholes})
        unknown = frozenset(kind for kind, _ in names if not self.mirror.knows(kind))
        if unknown:
            self.converger.look(self.converger.beside(unknown))
        target = _some(current, names)
        found = self.converger.diff(target, self.mirror.of(names), self.wanted.acknowledged(target))
        wanted = set(owed)
        changes = [change for change in found.changes if name_of(change.resource) in wanted]
        for conflict in found.conflicts:
            self._refuse(report, name_of(conflict.resource), conflict.text)
        outcome = self.converger.deliver(changes)
        report.done.update(outcome.done)
        for failure in outcome.failures:
            self._refuse(report, name_of(failure.change.resource), unfinished([failure.change], [failure]).message)
        refused = {name_of(failure.change.resource) for failure in outcome.failures}
        self.wanted.fail(refused)
        self.wanted.settle(name for name in owed if name not in refused)
        apart = {one.resource.kind for one in changes if one.verb != "change"}
        moving = {kind for kind in apart if self.converger.carries(kind)} | {kind for kind, _ in refused}
        self._later |= self.converger.widen(moving) if moving else frozenset()

    def _refuse(self, report: Report, name: Name, text: str) -> None:
        if self.wanted.current.names_in_plan(name):
            report.error = Transient("Applied", "Refused", text)
        else:
            self.wanted.refuse(name, text)
            report.unmet[name] = text

    def preview(self, acquired: Acquired | None = None, *, adopt: bool = False) -> ChangeSet:
        """What `converge` would do. Raises CycleError where even that is not known."""
        with quiet_gc():
            report = Report(confirmed=self.confirmed_or_none())
            known = self._known(report) or self.wanted.nothing()
            candidate = acquired.candidate if acquired else None
            target = self._compose(candidate) if candidate else known
            return self.converger.diff(target, self.converger.look(self.all_kinds), known, adopt=adopt)

    def adoption(self, acquired: Acquired | None = None) -> list[Change]:
        """What adopting would take over, beside what is done anyway. Raises CycleError."""
        anyway = set(self.preview(acquired).changes)
        return [change for change in self.preview(acquired, adopt=True).changes if change not in anyway]

    def removal(self) -> ChangeSet:
        """What `remove` would do."""
        return self.converger.diff(NOTHING, self.converger.look(self.all_kinds), NOTHING)

    def remove(self) -> Report:
        """Give the host back: all that is ours goes, what was changed is put back, nothing stays confirmed."""
        with self._reporting("remove") as report:
            self.store.forget_confirmed()
            self.wanted.forget()
            self.trial = None
            self._converge(Cycle(report, self.wanted.nothing(), NOTHING, self.all_kinds))
            self.store.end()
            report.nothing_to_do = True
        return report

    def _try(
        self, candidate: Candidate, report: Report, known: Composed | None, kinds: frozenset[str], adopt: bool
    ) -> None:
        """Apply a new plan; on a failure go back to the known one and remember the commit as rejected."""
        led = self.wanted.current if self.wanted.current.digest else known or NOTHING
        cycle = Cycle(report, self._compose(candidate), led, kinds, known, candidate, adopt)
        try:
            self._converge(cycle)
        except Conflicted:
            # The new plan has to wait for a person; what is confirmed is still looked after.
            if known is not None:
                conflicts, foreign = report.conflicts, report.satisfied_foreign
                self._converge(Cycle(report, known, led, kinds))
                self.store.end()  # of a plan on trial, which this one would have replaced
                report.conflicts = conflicts + [c for c in report.conflicts if c not in conflicts]
                report.satisfied_foreign = foreign
        except (CycleError, OSError) as error:
            if not cycle.journaled:
                raise
            report.error = as_cycle_error(error)
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
            failed += self.probing.after(Criteria(checks=cycle.criteria.later_checks), self.stages.probe_seconds(cycle))
            try:
                if failed:
                    raise Stalled("Applied", "ProbeFailed", complaint(failed))
                self.stages.confirm(cycle)
            except (CycleError, OSError) as error:
                report.error = as_cycle_error(error)
                self._roll_back(cycle, self._known(report), trial.candidate)
        self.line.disarm()
        return report

    def _roll_back(self, failed: Cycle, known: Composed | None, candidate: Candidate) -> None:
        report = failed.report
        assert report.error is not None
        if report.state_error is None:
            try:
                self._converge(Cycle(report, known or self.wanted.nothing(), failed.target, self.all_kinds))
                self.store.end()
                report.rolled_back = True
            except (CycleError, OSError) as error:
                report.error.message += f"; going back failed too: {as_cycle_error(error).message}"
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

    # Loops

    def change(
        self, owner: str, put: Iterable[Resource] = (), drop: Iterable[Name] = (), amend: Iterable[Amend] = ()
    ) -> list[Refused]:
        """What an owner wants beside the plan, or of it; what of that is refused. `follow` applies it."""
        return self.wanted.change(owner, put, drop, amend)

    def expect(self, owner: str, scopes: Iterable[Scope]) -> None:
        """Delete nothing in these scopes before the owner has spoken, or a minute has passed."""
        if self._adopting:
            self.wanted.expect(owner, scopes)

    def adoptable(self, scopes: Iterable[Scope]) -> list[Observed[Any]]:
        """What is ours in these scopes and named by no plan: left by an earlier life of the owner."""
        current = self.wanted.current
        found = (one for scope in scopes for one in self.mirror.kind(scope.kind) if scope.covers(name_of(one.resource)))
        owns = {name: kind.owns for name, kind in self.converger.kinds.items()}
        return [one for one in found if owns[one.resource.kind](one) and current.get(name_of(one.resource)) is None]

    def named_peers(self) -> tuple[dict[Key, Resource], list[Observed[Any]]]:
        """The plan's peers whose endpoints are DNS names, and what of them was seen last."""
        of_plan = self.in_force.of_plan("peer")
        named: dict[Key, Resource] = {
            key: one for key, one in of_plan if isinstance(one, Peer) and one.endpoint and is_name(one.endpoint)
        }
        seen = (self.mirror.get("peer", key) for key in named)
        return named, [one for one in seen if one is not None]

    def set_endpoints(self, changes: list[Change]) -> list[Failure]:
        """Point peers at what their names resolve to now, unless somebody is just setting peers. Raises OSError."""
        return [] if self.converger.busy == "peer" else self.converger.deliver(changes).failures

    # Tunnels and sessions

    @property
    def alive(self) -> frozenset[str]:
        """The tunnels that carry traffic, of those that are watched."""
        return self.wanted.alive

    @property
    def idle(self) -> frozenset[str]:
        """Tunnels that are watched and carry nothing: those that are new, until they have answered, and dead ones."""
        watches = self.runtime.watches or ()
        return frozenset(tunnel.dev for watch in watches for tunnel in watch.tunnels) - self.alive

    @property
    def out(self) -> frozenset[str]:
        """Tunnels that were found dead when they were first looked at: whoever probed before had left them out."""
        return self._out

    def set_alive(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        """Which of the watched tunnels are alive now; `follow` moves the traffic."""
        self.wanted.lives(self.alive - frozenset(watched) | alive)

    # Plans

    def confirmed_or_none(self) -> Confirmed | None:
        try:
            return self.store.confirmed()
        except Stalled:
            return None

    @property
    def in_force(self) -> Composed:
        """The plan that the kernel is led to, with all that is wanted beside it."""
        return self.wanted.current

    def _known(self, report: Report) -> Composed | None:
        """The plan to keep: the one on trial, or the confirmed one; where that is lost, the report says so."""
        self._confirmed = report.confirmed
        if self.trial is not None:
            return self.trial.cycle.target
        if report.confirmed is None:
            return None
        try:
            return self._stored(report.confirmed.digest)
        except Stalled as error:
            report.state_error = error
            return None

    def _stored(self, digest: str) -> Composed:
        if not digest:
            return self.wanted.nothing()
        if self.wanted.current.digest == digest:
            return self.wanted.current
        plan = self.store.load_plan(digest)
        self._learn(plan)
        return self.wanted.compose(plan, digest)

    def _perhaps(self, digest: str) -> Composed:
        try:
            return self._stored(digest)
        except Stalled:
            return NOTHING

    def _compose(self, candidate: Candidate) -> Composed:
        if candidate.digest == self.wanted.current.digest:
            return self.wanted.current
        self._learn(candidate.plan)
        return self.wanted.compose(candidate.plan, candidate.digest)

    def _learn(self, plan: HostPlan) -> None:
        """See which tunnels and sessions live, of those of which a plan makes something and nobody has told yet."""
        if awaited := takeover.awaited(plan.runtime):
            self._awaited = awaited | takeover.awaited(self.wanted.current.runtime)
            self._peers({str(key[0]) for key in awaited})
        for watch in plan.runtime.watches or ():
            if watch.name not in self._looked_at:
                self._looked_at |= {watch.name}
                kinds = {"link", "peer"} | groups.kinds(plan.runtime)
                alive, out = groups.standing(plan.runtime, watch, self.converger.look(self.all_kinds & kinds))
                self._out |= out
                self.wanted.lives(self.alive | alive)

    # Inside

    def _converge(self, cycle: Cycle) -> None:
        if self._adopting and not cycle.hold:
            self._adopted_by = self._adopted_by or self.ticks() + ADOPTION
            if self.ticks() > self._adopted_by:
                self._adopting = False
                self.wanted.waive()
        self.stages.run(cycle)
        if not cycle.hold:
            self.runtime = cycle.target.runtime
        # A link that comes again some day is looked at anew.
        watches = cycle.target.runtime.watches or ()
        devs = {tunnel.dev for watch in watches for tunnel in watch.tunnels}
        self._looked_at &= {watch.name for watch in watches}
        self._out &= devs
        self.wanted.lives(self.alive & devs)
        self._confirmed = cycle.report.confirmed

    def _saw(self, observation: Observation) -> None:
        if "peer" in observation:
            self._heard.note(observation["peer"])
            self.wanted.takes_over(takeover.up(self.mirror.get("peer", key) for key in self._awaited))

    def _peers(self, devices: Iterable[str]) -> list[Observed[Any]]:
        """The peers on some devices, as they are now."""
        seen = self.converger.look(self.converger.beside({"peer"}), frozenset(devices))
        return list(seen.get("peer", ()))

    def _routes(self) -> list[Observed[Any]]:
        return list(self.converger.look(frozenset({"route"})).get("route", ()))

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


def _some(current: Composed, names: Iterable[Name]) -> Desired:
    """Of what is wanted only these."""
    found: dict[str, dict[Key, Resource]] = {}
    for kind, key in names:
        of_kind = found.setdefault(kind, {})
        if (want := current.get((kind, key))) is not None:
            of_kind[key] = want
    return Desired(found)
