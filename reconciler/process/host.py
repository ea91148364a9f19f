"""One host in care: runs cycles, and turns each report into conditions, status, log lines and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.base.errors import CycleError, Stalled
from reconciler.base.log import Level, log
from reconciler.converge.diff import Name
from reconciler.converge.wanted import Amend, Refused
from reconciler.cycle.engine import Engine
from reconciler.loops.base import Plug, Row, TunnelNote
from reconciler.process import status as statuses
from reconciler.process.status import Drift
from reconciler.report.conditions import Condition, Conditions, conclude, short
from reconciler.report.contest import Contest
from reconciler.report.report import Acquired, Report
from reconciler.sources.acquire import Acquirer
from reconciler.state.store import Store
from schema.plan import Change, Resource

if TYPE_CHECKING:
    from reconciler.process.metrics import Metrics


TRIAL_INTERVAL = 0.5
"""Seconds between two looks at a plan on trial."""
MOVES_SHOWN = 1.0
"""Seconds between two statuses that are written because loops have moved something."""


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
        plugs: Sequence[Plug] = (),
        metrics: Metrics | None = None,
    ) -> None:
        """`plugs` are the loops that there are; those that run `listen`, and `show` how things are."""
        self.name = name
        self.store = store
        self.engine = engine
        self.acquirer = acquirer
        self.clock = clock
        self.say = say
        self.plugs = plugs
        self.conditions = Conditions(name for plug in plugs for name in plug.conditions)
        self.drift = Drift()
        self.contest = Contest()
        self.metrics = metrics
        self.last: Report | None = None
        self._rows: dict[str, Sequence[Row]] = {plug.name: () for plug in plugs if plug.shows}
        self._notes: Mapping[str, TunnelNote] = {}
        self._listeners: dict[str, Callable[[Sequence[Refused]], None]] = {}
        self._shown = 0.0
        """When a status was written last."""
        self._said: dict[str, str] = {}

    # Loops

    def recall(self) -> None:
        """Have loops want what they remember, and delete nothing that they may still want."""
        try:
            plan = self.store.plan_in_force()
        except (Stalled, OSError):
            return
        if plan is None:
            return
        for plug in self.plugs:
            try:
                self.engine.change(plug.name, plug.remembered(self.store.folder, plan.runtime))
            except OSError as error:
                self.say("warning", f"{plug.name}: cannot read what it wanted last: {error.strerror}")
            self.engine.expect(plug.name, plug.scopes(plan.runtime))

    def listen(self, owner: str, told: Callable[[Sequence[Refused]], None]) -> None:
        """Have a loop told what it does not get, or not any more."""
        self._listeners[owner] = told

    def show(self, owner: str, rows: list[Row]) -> None:
        """How what a loop looks after is now."""
        self._rows[owner] = rows
        if self.metrics is not None:
            self.metrics.show(owner, rows)

    def note_tunnels(self, notes: Mapping[str, TunnelNote]) -> None:
        """What is known of tunnels beside what the kernel says, by device."""
        self._notes = notes

    def serve_metrics(self, address: str, port: int) -> None:
        """Answer for the metrics at one more address, where there are any."""
        if self.metrics is None:
            return
        try:
            self.metrics.serve(address, port)
        except OSError as error:
            self.say("warning", f"cannot listen on {address}:{port} for metrics: {error.strerror}")

    def change(
        self, owner: str, put: Iterable[Resource] = (), drop: Iterable[Name] = (), amend: Iterable[Amend] = ()
    ) -> tuple[list[Refused], Report | None]:
        """What a loop wants beside the plan, in the kernel at once; while the agent is suspended only later."""
        refused = self.engine.change(owner, put, drop, amend)
        return refused, self._moved()

    def replace(self, owner: str, resources: Iterable[Resource]) -> tuple[list[Refused], Report | None]:
        """The same, of all that it wants."""
        refused = self.engine.wanted.replace(owner, resources)
        return refused, self._moved()

    def move(self, watched: Iterable[str], alive: frozenset[str]) -> Report | None:
        """Have traffic follow what became of the watched tunnels; None where nothing had to move."""
        self.engine.set_alive(watched, alive)
        report = self._moved()
        self.write_status()
        return report

    def _moved(self) -> Report | None:
        """Have the kernel follow; what is only owed while the agent is suspended is not."""
        report = None if self._suspended() else self.engine.follow()
        if report is not None:
            self._finish_move(report)
        self._tell()
        return report

    @property
    def behind(self) -> bool:
        """Whether something that was changed takes a cycle: see `catch_up`."""
        return self.engine.behind and not self._suspended()

    def catch_up(self) -> Report | None:
        """Have the kernel hold what could not be given to it at once."""
        report = None if self._suspended() else self.engine.catch_up()
        if report is not None:
            self.finish(report)
            self._moved()
        return report

    def point(self, changes: list[Change]) -> None:
        """Have peers spoken to where their names point now."""
        if self._suspended():
            return
        for change in changes:
            self.say("info", f"the name of a silent peer moved: {change.resource.describe()}")
        try:
            failures = self.engine.set_endpoints(changes)
        except OSError as error:
            self.say("warning", f"cannot set an endpoint: {error}")
            return
        for failure in failures:
            self.say("warning", f"cannot set an endpoint: {failure.message}")

    def _finish_move(self, report: Report) -> None:
        """A move is small and there may be a thousand of them in a second: it is not the end of a cycle."""
        if self.metrics is not None:
            self.metrics.cycle(report)
        if report.error or report.unmet or report.conflicts:
            self.finish(report)
            return
        if {kind for kind, _ in report.done} - {"peer"}:
            self._log(report)
        if self.clock() - self._shown >= MOVES_SHOWN:
            self.write_status()

    def _tell(self) -> None:
        for refused in self.engine.wanted.refusals(self._listeners):
            self._listeners[refused.owner]([refused])

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
        devices: frozenset[str] | None = None,
        adopt: bool = False,
    ) -> Report:
        """One cycle, see `Engine.converge`; while the agent is suspended it touches nothing."""
        hold = self._suspended() and not adopt
        report = self.engine.converge(acquired, kinds=kinds, cascade=cascade, devices=devices, adopt=adopt, hold=hold)
        return self.finish(report) if hold else self._followed(report)

    def sweep(self, kinds: Iterable[str]) -> Report | None:
        """Compare what nobody announces, on the devices whose turn it is. Few peers are looked at often."""
        try:
            devices = self.engine.converger.devices_due()
        except CycleError as error:
            self._complain(error.message)
            return None
        # What is held back is shown as a whole.
        return self.converge(kinds=kinds, cascade=False, devices=None if self._suspended() else devices)

    def _followed(self, report: Report) -> Report:
        """Finish a cycle, and let traffic follow what came up or went meanwhile."""
        self.finish(report)
        self._moved()
        self.catch_up()
        return report

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
        self._tell()
        if report.acquired is not None:
            report.acquired.candidate = None  # its plan is a few megabytes, and reports are kept
        return report

    def _conclude(self, report: Report) -> None:
        now = self.clock()
        report.trial = self.engine.trial.text if self.engine.trial else ""
        self.conditions.update(conclude(report), now)
        self._note_suspension(report, now)
        for plug in self.plugs:
            if plug.pending and self.conditions.get(plug.pending) is None and plug.settings(self.engine.runtime):
                # It is not well before its loop has looked; what works unwatched has no such condition.
                unknown = Condition(plug.pending, "Unknown", "Starting", "not looked at yet")
                self.conditions.update([unknown], now)
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

    def remark(self, type_: str, found: Condition | None) -> None:
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
            rows=self._rows,
            overlays=self._overlays(),
            rejected=list(self.store.rejected().values()),
            now=self.clock(),
        )

    def tunnels(self) -> list[dict[str, Any]]:
        """A row for each peer of the plan; how many there are beside it is in `overlays`."""
        engine = self.engine
        of_plan = engine.in_force.of_plan("peer")
        return statuses.tunnels(lambda key: engine.mirror.get("peer", key), of_plan, self._notes, engine.idle)

    def _overlays(self) -> dict[str, dict[str, int]]:
        counts = {
            owner: {kind: len(of_kind) for kind, of_kind in sorted(overlay.put.items()) if of_kind}
            for owner, overlay in self.engine.wanted.overlays.items()
        }
        return {owner: of_kind for owner, of_kind in counts.items() if of_kind}

    def write_status(self) -> None:
        """Write status.json and the metrics that show a state. A full disk is no reason to stop."""
        self._shown = self.clock()
        status = self.status()
        if self.metrics is not None:
            self.metrics.state(self.name, status["commit"], status["digest"], self.conditions.all())
            self.metrics.tunnels(status["tunnels"])
            self.metrics.overlays(status["overlays"])
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
