"""Turns each cycle's report into conditions, status, log lines and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.base.log import Level
from reconciler.base.words import and_more
from reconciler.cycle.engine import Engine
from reconciler.loops.base import Plug, Row, TunnelNote
from reconciler.process import status as statuses
from reconciler.process.status import Drift
from reconciler.report.conditions import Condition, Conditions, conclude, short
from reconciler.report.contest import Contest
from reconciler.report.report import Report
from reconciler.state.store import Store

if TYPE_CHECKING:
    from reconciler.process.metrics import Metrics

MOVES_SHOWN = 1.0
"""Minimum seconds between two statuses that are written because loops moved something."""


class Reporter:
    """Shows reports to people and machines. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        name: str,
        source: str,
        store: Store,
        engine: Engine,
        clock: Callable[[], float],
        say: Callable[[Level, str], None],
        plugs: Sequence[Plug],
        metrics: Metrics | None,
    ) -> None:
        """`source` names the source of plans. `plugs` are the loops; the running ones call `show`."""
        self.name = name
        self.source = source
        self.store = store
        self.engine = engine
        self.clock = clock
        self.say = say
        self.plugs = plugs
        self.metrics = metrics
        self.conditions = Conditions(name for plug in plugs for name in plug.conditions)
        self.drift = Drift()
        self.contest = Contest()
        self.last: Report | None = None
        """The last report about the whole plan."""
        self._rows: dict[str, Sequence[Row]] = {plug.name: () for plug in plugs if plug.shows}
        self._notes: Mapping[str, TunnelNote] = {}
        self._shown = 0.0
        """The time of the last status."""
        self._said: dict[str, str] = {}

    # Cycles

    def finish(self, report: Report) -> None:
        """Report on a cycle, whichever way it ended."""
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

    def finish_move(self, report: Report) -> bool:
        """Report on a move briefly, as there may be a thousand per second. Returns False if it needs `finish`.

        A move that failed needs `finish`.
        """
        if self.metrics is not None:
            self.metrics.cycle(report)
        if report.error or report.unmet or report.conflicts:
            return False
        if {kind for kind, _ in report.done} - {"peer"}:
            self._log(report)
        if self.clock() - self._shown >= MOVES_SHOWN:
            self.write_status()
        return True

    def record(self, report: Report) -> None:
        """Record a fetch that brought nothing to apply; the result of the last cycle stays valid."""
        if self.last is not None:
            report.confirmed, report.state_error = self.last.confirmed, self.last.state_error
            report.conflicts = self.last.conflicts
            report.error, report.rolled_back = self.last.error, self.last.rolled_back
        self._conclude(report)
        self.write_status()

    # Loops

    def show(self, owner: str, rows: list[Row]) -> None:
        """Set the rows of a loop."""
        self._rows[owner] = rows
        if self.metrics is not None:
            self.metrics.show(owner, rows)

    def annotate_tunnels(self, notes: Mapping[str, TunnelNote]) -> None:
        """Set what is known of tunnels beside the kernel's data, by device."""
        self._notes = notes

    def serve_metrics(self, address: str, port: int) -> None:
        """Serve the metrics at an additional address, if there are any."""
        if self.metrics is None:
            return
        try:
            self.metrics.serve(address, port)
        except OSError as error:
            self.say("warning", f"cannot listen on {address}:{port} for metrics: {error.strerror}")

    def remark(self, type_: str, found: Condition | None) -> None:
        """Set a loop's condition; None removes it, if there is nothing to report on."""
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

    # Status

    def status(self) -> dict[str, Any]:
        """The current status, as in status.json."""
        confirmed = self.last.confirmed if self.last else None
        return statuses.build(
            host=self.name,
            source=self.source,
            report=self.last,
            digest=confirmed.digest if confirmed else "",
            commit=confirmed.commit if confirmed else "",
            conditions=self.conditions.all(),
            drift=self.drift,
            peers=self.tunnels(),
            rows=self._rows,
            overlays=self._overlays(),
            rejected=list(self.store.commits.rejected().values()),
            now=self.clock(),
        )

    def tunnels(self) -> list[dict[str, Any]]:
        """One row per peer of the plan. `overlays` counts the other peers."""
        engine = self.engine
        of_plan = engine.wanted.current.of_plan("peer")
        return statuses.tunnels(lambda key: engine.mirror.get("peer", key), of_plan, self._notes, engine.idle)

    def _overlays(self) -> dict[str, dict[str, int]]:
        counts = {
            owner: {kind: len(of_kind) for kind, of_kind in sorted(overlay.put.items()) if of_kind}
            for owner, overlay in self.engine.wanted.overlays.items()
        }
        return {owner: of_kind for owner, of_kind in counts.items() if of_kind}

    def write_status(self) -> None:
        """Write status.json and the metrics of state. A full disk does not stop the agent."""
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
            self.complain(f"cannot write the status: {error.strerror}")

    def complain(self, text: str) -> None:
        """Warn once about a problem outside a cycle."""
        if self._said.get("status") != text:
            self.say("warning", text)
        self._said["status"] = text

    # Inside

    def _conclude(self, report: Report) -> None:
        now = self.clock()
        report.trial = self.engine.trial.text if self.engine.trial else ""
        self.conditions.update(conclude(report), now)
        self._note_suspension(report, now)
        for plug in self.plugs:
            if plug.pending and self.conditions.get(plug.pending) is None and plug.settings(self.engine.runtime):
                # The status is not ok until the loop has reported. Without the loop, the condition does not exist.
                unknown = Condition(plug.pending, "Unknown", "Starting", "not looked at yet")
                self.conditions.update([unknown], now)
        contested = self.contest.contested(now)
        if not contested:
            self.conditions.drop("Contested")
            self._said.pop("Contested", None)
            return
        (kind, _), text, count = contested[0]
        more = and_more(contested)
        message = (
            f"something keeps undoing {kind} {text}{more}: put back {count} times in a minute, now more slowly. "
            "Under systemd-networkd install deploy/networkd/10-gitwan.conf"
        )
        self.conditions.update([Condition("Contested", "True", "Undone", message)], now)

    def _note_suspension(self, report: Report, now: float) -> None:
        suspension = self.store.suspensions.current(now)
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
        """Log each condition once when it turns bad, and once when it turns good again."""
        text = f"{condition.type}={condition.status} {condition.reason}: {condition.message}"
        bad = condition.status == "False" or condition.type == "Contested"
        before = self._said.get(condition.type, "")
        mark = (condition.reason if condition.type == "Contested" else text) if bad else ""
        if bad and before != mark and condition.reason != "NothingConfirmed":
            self.say("error", text)
        elif not bad and before and condition.status == "True":
            self.say("info", text)
        self._said[condition.type] = mark
