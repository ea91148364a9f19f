"""Decides which cycle to run, and rolls back.

    ACQUIRE   fetch -> verify -> compile_plan       (`sources/acquire.py`: slow, changes nothing of this host's network)
    CONVERGE  the stages of a cycle                 (`stages.py`)

A rollback has no mechanism of its own: it is CONVERGE towards the last confirmed plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from reconciler.base.errors import CycleError, Stalled, Waiting
from reconciler.base.line import Line
from reconciler.converge.converger import Converger
from reconciler.converge.diff import Kinds, Observation
from reconciler.converge.endpoints import Heard
from reconciler.converge.executor import Drivers
from reconciler.converge.lane import Lane
from reconciler.converge.layers import NOTHING, Composed, Unneeded, useful_to_all
from reconciler.converge.mirror import Mirror
from reconciler.converge.wanted import Wanted
from reconciler.cycle.delivery import Delivery
from reconciler.cycle.leftovers import Leftovers
from reconciler.cycle.plans import Plans
from reconciler.cycle.probes import Check, Criteria, LiveTunnel, complaint
from reconciler.cycle.probing import Prober, Probing
from reconciler.cycle.rejections import Rejections
from reconciler.cycle.reporting import as_cycle_error, reporting
from reconciler.cycle.stages import LOST, Conflicted, Cycle, Stages, Trial
from reconciler.kinds.base import Observed
from reconciler.report.report import Acquired, Candidate, Mode, Report
from reconciler.state.store import Confirmed, Store
from schema.plan import Runtime


class Engine:
    """Brings one host to its plan, and rolls back on failure. The caller holds the lane."""

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
        unneeded: Unneeded = useful_to_all,
    ) -> None:
        """`batch` limits the changes per driver call. `on_stage` is called before every stage and driver call;
        `covered` gets the kinds that are about to be repaired. `line` leads to the parent, which enforces the deadline.
        `patience` is the far end's poll interval for commits, in seconds."""
        self.store = store
        self.clock = clock
        self.ticks = ticks
        self.lane = lane or Lane()
        self.wanted = Wanted(kinds, unneeded)
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
        self.plans = Plans(store, self.wanted, self.converger)
        self.delivery = Delivery(self.converger, self.wanted)
        self.leftovers = Leftovers(self.wanted, self.converger, ticks)
        self._rejections = Rejections(store, clock)
        self.runtime = Runtime()
        """The part of the plan in force that concerns loops. It does not change while the agent is suspended."""
        self.newest: str | None = None
        """The newest known commit, whatever its outcome."""
        self._confirmed: Confirmed | None = None

    # Interface for other modules

    @property
    def line(self) -> Line:
        return self.stages.line

    @property
    def trial(self) -> Trial | None:
        """A plan that is applied but not confirmed yet."""
        return self.stages.trial

    @trial.setter
    def trial(self, trial: Trial | None) -> None:
        self.stages.trial = trial

    @property
    def all_kinds(self) -> frozenset[str]:
        return self.converger.all_kinds

    @property
    def mirror(self) -> Mirror:
        """The state of the kernel at the last reading."""
        return self.converger.mirror

    # Converging

    def restore(self, because: str = "") -> Report:
        """Restore the last confirmed plan from disk, and undo an interrupted change. Needs no git and no network.

        `because` is the parent's reason why the change failed; if it is set, its commit is not tried again.
        """
        with reporting("restore") as report:
            journal = self.store.journal()
            report.confirmed = self.store.confirmed()
            if journal and report.confirmed and journal.to_digest == report.confirmed.digest:
                journal = None  # the plan was confirmed; only the end of the journal is missing
                self.store.end()
            if journal is None and report.confirmed is None:
                report.says_nothing_of_the_plan = True
                return report
            came_from = journal.from_digest if journal and journal.boot else ""
            if came_from == LOST:
                raise Stalled("Confirmed", "StateLost", "a change was interrupted, and what was before is not known")
            target = previous = self.plans.stored(report.confirmed.digest if report.confirmed else came_from)
            if journal is not None:
                report.rolled_back = True
                self._rejections.cut_off(journal.commit, because)
                previous = self.plans.stored_or_nothing(journal.to_digest)
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
        """Apply what was acquired; if that is nothing new, repair drift from the confirmed plan.

        With `hold`, changes are only counted, and nothing is applied.

        `kinds` limits the reading to the kinds of an event and, with `cascade`, their dependents; `devices` limits it
        further, for kinds that are dumped by device. `adopt` takes ownership of wanted objects of others. It never
        rolls back, because a rollback would delete what was adopted.
        """
        candidate = acquired.candidate if acquired and not hold else None
        if self.trial and candidate and self.trial.candidate.commit == candidate.commit:
            candidate = None  # already applied
        mode: Mode = "adopt" if adopt else "apply" if candidate else "repair"
        with reporting(mode) as report:
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
                self.trial = None  # a newer commit replaces it
            known = self.known(report)
            if candidate is not None:
                self._try(candidate, report, known, wanted, adopt)
            elif known is not None:
                self._converge(Cycle(report, known, known, wanted, adopt=adopt, hold=hold, devices=devices))
                if not report.partial and self.trial is None and not hold:
                    self.store.end()
            else:
                report.says_nothing_of_the_plan = True
        return report

    def apply_owed(self) -> Report | None:
        """Apply what loops, tunnels and sessions have changed since the last call; None if nothing is owed.

        Changes that cannot be applied at once are left for `catch_up`.
        """
        owed = self.delivery.quick()
        if not owed or self.wanted.current.digest == "":
            return None
        with reporting("move") as report:
            self._begin_move(report)
            with self.lane.firmly():
                self.delivery.deliver(report, owed)
        return report

    def catch_up(self) -> Report | None:
        """Run a cycle for what `apply_owed` left; None if it left nothing. May take as long as a full cycle."""
        kinds = self.delivery.take_later()
        if not kinds or self.wanted.current.digest == "":
            return None
        with reporting("move") as report:
            self._begin_move(report)
            current = self.wanted.current
            self._converge(Cycle(report, current, current, kinds & self.all_kinds))
        return report

    def _begin_move(self, report: Report) -> None:
        report.partial = True
        report.newest = self.newest
        report.confirmed = self._confirmed

    def remove(self) -> Report:
        """Give the host back: delete everything of ours, restore changed values, and forget the confirmed plan."""
        with reporting("remove") as report:
            self.store.forget_confirmed()
            self.wanted.forget()
            self.trial = None
            self._converge(Cycle(report, self.wanted.nothing(), NOTHING, self.all_kinds))
            self.store.end()
            report.says_nothing_of_the_plan = True
        return report

    def _try(
        self, candidate: Candidate, report: Report, known: Composed | None, kinds: frozenset[str], adopt: bool
    ) -> None:
        """Apply a new plan; on failure, return to the known one and reject the commit."""
        led = self.wanted.current if self.wanted.current.digest else known or NOTHING
        cycle = Cycle(report, self.plans.of(candidate), led, kinds, known, candidate, adopt)
        try:
            self._converge(cycle)
        except Conflicted:
            # The new plan has to wait for a person. The confirmed plan is still enforced.
            if known is not None:
                conflicts, foreign = report.conflicts, report.satisfied_foreign
                self._converge(Cycle(report, known, led, kinds))
                self.store.end()  # ends the journal of a plan on trial, which this one would have replaced
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
        """Decide on the plan on trial. None if there is none, or if the decision is still open."""
        trial = self.trial
        if trial is None or self.probing is None:
            return None
        trial.waiting = self.probing.awaited(trial.waiting)
        if trial.waiting and self.ticks() < trial.until:
            return None
        self.trial = None
        cycle = trial.cycle
        with reporting("apply") as report:
            cycle.report, cycle.candidate = report, trial.candidate
            report.newest = self.newest
            report.confirmed = self.store.confirmed()
            failed: list[Check | LiveTunnel] = list(trial.waiting)
            failed += self.probing.after(Criteria(checks=cycle.criteria.later_checks), self.stages.probe_seconds(cycle))
            try:
                if failed:
                    raise Stalled("Applied", "ProbeFailed", complaint(failed))
                self.stages.confirm(cycle)
            except (CycleError, OSError) as error:
                report.error = as_cycle_error(error)
                self._roll_back(cycle, self.known(report), trial.candidate)
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
            self._rejections.reject(candidate.commit, report.error)

    @property
    def idle(self) -> frozenset[str]:
        """Watched tunnels that carry no traffic: dead ones, and new ones that have not answered yet."""
        watches = self.runtime.watches or ()
        return frozenset(tunnel.dev for watch in watches for tunnel in watch.tunnels) - self.wanted.alive

    def known(self, report: Report) -> Composed | None:
        """The plan to keep: the one on trial or the confirmed one. If it is lost, the report says so."""
        self._confirmed = report.confirmed
        if self.trial is not None:
            return self.trial.cycle.target
        if report.confirmed is None:
            return None
        try:
            return self.plans.stored(report.confirmed.digest)
        except Stalled as error:
            report.state_error = error
            return None

    # Inside

    def _converge(self, cycle: Cycle) -> None:
        if not cycle.hold:
            self.leftovers.count_down()
        self.stages.run(cycle)
        if not cycle.hold:
            self.runtime = cycle.target.runtime
        self.plans.forget_others(cycle.target.runtime)
        self._confirmed = cycle.report.confirmed

    def _saw(self, observation: Observation) -> None:
        if "peer" in observation:
            self._heard.note(observation["peer"])
            self.plans.saw_peers()

    def _peers(self, devices: Iterable[str]) -> list[Observed[Any]]:
        """The current peers on these devices."""
        seen = self.converger.look(self.converger.beside({"peer"}), frozenset(devices))
        return list(seen.get("peer", ()))

    def _routes(self) -> list[Observed[Any]]:
        return list(self.converger.look(frozenset({"route"})).get("route", ()))
