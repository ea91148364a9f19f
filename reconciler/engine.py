"""Which cycle is run, and the way back.

    ACQUIRE   fetch -> verify -> compile_plan       (`acquire.py`: slow, and touches nothing of this host's network)
    CONVERGE  the stages of a cycle                 (`cycle.py`)

Rolling back is no second mechanism: it is CONVERGE towards the last confirmed plan.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.cycle import INTERRUPTIONS, LOST, Conflicted, Cycle, Stages, as_cycle_error
from reconciler.diff import NOTHING, ChangeSet, Desired, diff
from reconciler.errors import CycleError, Stalled, Waiting
from reconciler.probes import Check, Criteria, Tunnel, complaint
from reconciler.report import Acquired, Candidate, Mode, Report
from reconciler.state import Rejected
from reconciler.verify import companions
from schema.plan import Change
from schema.quiet import quiet_gc


class Engine(Stages):
    """Brings one host to its plan, and back where that fails. Not thread-safe."""

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
        """Have the kernel follow what loops and sessions have moved since; None where nothing has."""
        kinds, self._behind = self._behind, frozenset()
        if not kinds:
            return None
        self._desired.clear()
        with self._reporting("move") as report:
            report.partial = True
            report.newest = self.newest
            report.confirmed = self.store.confirmed()
            if self.trial is not None:
                self.trial.cycle.target = self._index(self.trial.candidate)
            if (known := self._known(report)) is not None:
                self._converge(Cycle(report, known, known, kinds & self.all_kinds))
        if report.error is not None:
            self._behind |= kinds  # what did not move is moved with the next look, whichever that is
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
            failed += self.probing.after(Criteria(checks=cycle.criteria.later_checks), self._probe_seconds(cycle))
            try:
                if failed:
                    raise Stalled("Applied", "ProbeFailed", complaint(failed))
                self.confirm(cycle)
            except (CycleError, OSError) as error:
                report.error = as_cycle_error(error)
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
