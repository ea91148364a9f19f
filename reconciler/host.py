"""One host in care: runs cycles, and turns each report into conditions, status, log lines and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from reconciler import status as statuses
from reconciler.acquire import Acquirer
from reconciler.conditions import Condition, Conditions, conclude, short
from reconciler.contest import Contest
from reconciler.engine import Engine
from reconciler.errors import ConditionType, Stalled
from reconciler.log import Level, log
from reconciler.loops.health.policy import Verdict
from reconciler.report import Acquired, Report
from reconciler.state import Store
from reconciler.status import Drift
from schema.plan import Resource

if TYPE_CHECKING:
    from reconciler.metrics import Metrics


TRIAL_INTERVAL = 0.5
"""Seconds between two looks at a plan on trial."""


class Host:
    """Everything about this host except when to do what, which is the agent's business."""

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        engine: Engine,
        acquirer: Acquirer,
        clock: Callable[[], float] = time.time,
        say: Callable[[Level, str], None] = log,
    ) -> None:
        self.name = name
        self.store = store
        self.engine = engine
        self.acquirer = acquirer
        self.clock = clock
        self.say = say
        self.conditions = Conditions()
        self.drift = Drift()
        self.contest = Contest()
        self.metrics: Metrics | None = None
        self.last: Report | None = None
        self.verdicts: Callable[[], Sequence[Verdict]] = tuple
        """What the probes within tunnels say, where any are sent."""
        self.exits: Callable[[], list[dict[str, Any]]] = list
        """How the exits are, where there are any."""
        self._said: dict[str, str] = {}

    # Cycles

    def restore(self, because: str = "") -> Report:
        """Bring back the last confirmed plan, without git or any network; see `Engine.restore`."""
        if self._suspended() and self.store.journal() is None:
            return self.converge()
        return self._followed(self.engine.restore(because))

    def judge(self) -> Report | None:
        """What became of the plan on trial; None where that is not known yet, or there is none."""
        report = self.engine.judge()
        return self.finish(report) if report else None

    def acquire(self) -> Acquired:
        """Fetch and compile; may run in a thread of its own."""
        return self.acquirer.acquire()

    def converge(
        self,
        acquired: Acquired | None = None,
        *,
        kinds: Iterable[str] | None = None,
        cascade: bool = True,
        adopt: bool = False,
    ) -> Report:
        """One cycle, see `Engine.converge`; while the agent is suspended it touches nothing."""
        hold = self._suspended() and not adopt
        report = self.engine.converge(acquired, kinds=kinds, cascade=cascade, adopt=adopt, hold=hold)
        return self.finish(report) if hold else self._followed(report)

    def _followed(self, report: Report) -> Report:
        """Finish a cycle, and let traffic follow what came up or went meanwhile."""
        self.finish(report)
        if moved := self.engine.follow():
            self.finish(moved)
        return report

    def move(self, watched: Iterable[str], alive: frozenset[str]) -> Report | None:
        """Have traffic follow what became of the watched tunnels; None where nothing had to move."""
        self.engine.set_alive(watched, alive)
        self._note_tunnels(self.clock())
        if not self._suspended() and (report := self.engine.follow()):
            return self.finish(report)
        self.write_status()
        return None

    def publish(self, owner: str, resources: Iterable[Resource]) -> Report | None:
        """Have the kernel hold what a loop wants beside the plan; while the agent is suspended only later."""
        self.engine.set_overlay(owner, resources)
        if not self._suspended() and (report := self.engine.follow()):
            return self.finish(report)
        return None

    def resumed(self) -> bool:
        """Whether a suspension has ended since the last cycle."""
        return self.conditions.get("Suspended") is not None and not self._suspended()

    def _suspended(self) -> bool:
        return self.store.suspension(self.clock()) is not None

    def once(self) -> Report:
        """Restore, fetch, and apply what is new. Where nothing is new, one look at the kernel serves both."""
        if self._suspended():
            return self.converge(self.acquire())
        restored = self.engine.restore()
        acquired = self.acquire()
        if acquired.candidate is None and restored.error is None:
            restored.acquired, restored.newest = acquired, acquired.commit
            self.engine.newest = acquired.commit
            return self.finish(restored)
        report = self.engine.converge(acquired)
        report.done.update(restored.done)
        self.finish(report)
        while self.engine.trial is not None:
            time.sleep(TRIAL_INTERVAL)
            report = self.judge() or report
        return report

    def noted(self, acquired: Acquired) -> Report:
        """Record a look at the source that brought nothing to apply."""
        self.engine.newest = acquired.commit or self.engine.newest
        report = Report(acquired=acquired, newest=self.engine.newest, partial=True, nothing_to_do=True)
        if self.last is not None:
            report.confirmed, report.state_error = self.last.confirmed, self.last.state_error
            report.conflicts = self.last.conflicts
            report.error, report.rolled_back = self.last.error, self.last.rolled_back
        self._conclude(report)
        self.write_status()
        return report

    # What comes of a cycle

    def finish(self, report: Report) -> Report:
        """Everything that has to happen at the end of a cycle, whichever way it ended."""
        now = self.clock()
        if self.last is None or not report.partial or report.operations or report.error:
            self.last = report
        else:
            self.last.confirmed = report.confirmed
        if report.error is None:
            self.drift.note(report.repaired, now)
            repaired = (((c.resource.kind, c.resource.key), c.resource.describe()) for c in report.repaired)
            self.contest.note(repaired, now)
        waited = self.drift.waiting()
        self._conclude(report)
        self._log(report)
        if self.metrics is not None:
            self.metrics.cycle(report)
        if not report.partial or report.operations or report.error or self.drift.waiting() != waited:
            self.write_status()
        if report.acquired is not None:
            report.acquired.candidate = None  # its plan is a few megabytes, and reports are kept
        return report

    def _conclude(self, report: Report) -> None:
        now = self.clock()
        report.trial = self.engine.trial.text if self.engine.trial else ""
        self.conditions.update(conclude(report), now)
        self._note_suspension(report, now)
        if self.engine.exits and self.conditions.get("Exits") is None:
            # Nothing goes out by an exit before its loop has looked; tunnels and bonds work unwatched.
            self.conditions.update([Condition("Exits", "Unknown", "Starting", "not looked at yet")], now)
        contested = self.contest.contested(now)
        if not contested:
            self.conditions.drop("Contested")
            self._said.pop("Contested", None)
            return
        (kind, _), text, count = contested[0]
        more = f" (and {len(contested) - 1} more)" if len(contested) > 1 else ""
        message = (
            f"something keeps undoing {kind} {text}{more}: put back {count} times in a minute, now more slowly. "
            "Under systemd-networkd install deploy/networkd/10-gitwan.conf"
        )
        self.conditions.update([Condition("Contested", "True", "Undone", message)], now)

    def _note_suspension(self, report: Report, now: float) -> None:
        suspension = self.store.suspension(now)
        if suspension is None:
            self.conditions.drop("Suspended")
            self.drift.held = {}
            return
        self.drift.held |= report.held
        until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(suspension.until))
        count = len(self.drift.waiting())
        waiting = f"{count} change{'' if count == 1 else 's'} found and not made" if count else "no drift"
        message = f"until {until}: {suspension.why}; {waiting}"
        self.conditions.update([Condition("Suspended", "True", "Asked", message)], now)

    def _note_tunnels(self, now: float) -> None:
        """Which of the watched tunnels carry nothing, and why."""
        verdicts = self.verdicts()
        if not verdicts:
            self.conditions.drop("Tunnels")
            return
        dead = [verdict for verdict in verdicts if not verdict.alive]
        if not dead:
            found = Condition("Tunnels", "True", "Alive", f"{len(verdicts)} of {len(verdicts)} carry traffic")
        else:
            first = dead[0]
            more = f" (and {len(dead) - 1} more)" if len(dead) > 1 else ""
            found = Condition("Tunnels", "False", first.reason, f"{first.dev} of {first.link}: {first.text}{more}")
        self.conditions.update([found], now)
        self._log_condition(found)

    def remark(self, type_: ConditionType, found: Condition | None) -> None:
        """What a loop has to say; None where it has nothing to look at."""
        before = self.conditions.get(type_)
        if found is None:
            self.conditions.drop(type_)
            self._said.pop(type_, None)
        else:
            self.conditions.update([found], self.clock())
            self._log_condition(found)
        now = self.conditions.get(type_)
        if (before and (before.status, before.reason)) != (now and (now.status, now.reason)):
            self.write_status()

    def _log(self, report: Report) -> None:
        commit = short(report.confirmed.commit if report.confirmed else None)
        if report.operations:
            seconds = f"in {report.seconds:.2f} s"
            if report.repaired and report.error is None:
                self.say("warning", f"repaired {self.drift.last} ({report.summary()} {seconds})")
            else:
                self.say("info", f"{report.mode} {commit}: {report.summary()} {seconds}")
        for condition in self.conditions.all():
            self._log_condition(condition)

    def _log_condition(self, condition: Condition) -> None:
        """Say what turned bad and what turned good again, once each."""
        text = f"{condition.type}={condition.status} {condition.reason}: {condition.message}"
        bad = condition.status == "False" or condition.type == "Contested"
        before = self._said.get(condition.type, "")
        mark = (condition.reason if condition.type == "Contested" else text) if bad else ""
        if bad and before != mark and condition.reason != "NothingConfirmed":
            self.say("error", text)
        elif not bad and before and condition.status == "True":
            self.say("info", text)
        self._said[condition.type] = mark

    # Status

    def status(self) -> dict[str, Any]:
        """The status of now, as in status.json."""
        confirmed = self.last.confirmed if self.last else None
        return statuses.build(
            host=self.name,
            source=self.acquirer.source.name,
            report=self.last,
            digest=confirmed.digest if confirmed else "",
            commit=confirmed.commit if confirmed else "",
            conditions=self.conditions.all(),
            drift=self.drift,
            peers=self.tunnels(),
            exits=self.exits(),
            rejected=list(self.store.rejected().values()),
            now=self.clock(),
        )

    def tunnels(self) -> list[dict[str, Any]]:
        try:
            desired = self.engine.confirmed_resources().kind("peer")
        except (Stalled, OSError):
            desired = {}
        verdicts = {one.dev: one for one in self.verdicts()}
        return statuses.tunnels(self.engine.observed, desired, verdicts, self.engine.idle)

    def write_status(self) -> None:
        """Write status.json and the metrics that show a state. A full disk is no reason to stop."""
        status = self.status()
        if self.metrics is not None:
            self.metrics.state(self.name, status["commit"], status["digest"], self.conditions.all())
            self.metrics.tunnels(status["tunnels"])
            self.metrics.held.set(len(self.drift.waiting()))
            self.metrics.rejected.set(len(status["rejected"]))
        try:
            self.store.write_status(status)
        except OSError as error:
            self._complain(f"cannot write the status: {error.strerror}")

    def _complain(self, text: str) -> None:
        if self._said.get("status") != text:
            self.say("warning", text)
        self._said["status"] = text
