"""Runs the cycles of one host, and applies what its loops want. Its `Reporter` reports the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from reconciler.base.errors import CycleError, Stalled
from reconciler.base.log import Level, log
from reconciler.converge.diff import ResourceName
from reconciler.converge.wanted import Amend, Refused
from reconciler.cycle.engine import Engine
from reconciler.loops.base import Plug
from reconciler.process.reporter import Reporter
from reconciler.report.report import Acquired, Report
from reconciler.sources.acquire import Acquirer
from reconciler.state.store import Store
from schema.plan import Change, Resource

if TYPE_CHECKING:
    from reconciler.process.metrics import Metrics


TRIAL_INTERVAL = 0.5
"""Seconds between two checks of a plan on trial."""


class Reconciler:
    """All work for this host; the agent schedules it. While suspended, it never changes the kernel."""

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
        """`plugs` are the available loops; the running ones call `listen` and `show`."""
        self.name = name
        self.store = store
        self.engine = engine
        self.acquirer = acquirer
        self.clock = clock
        self.say = say
        self.plugs = plugs
        self.reporter = Reporter(
            name=name,
            source=acquirer.source.name,
            store=store,
            engine=engine,
            clock=clock,
            say=say,
            plugs=plugs,
            metrics=metrics,
        )
        self._listeners: dict[str, Callable[[Sequence[Refused]], None]] = {}

    # Loops

    def recall(self) -> None:
        """Want again what loops remember from their last run, and delete nothing in their scopes yet."""
        try:
            plan = self.store.plan_in_force()
        except (Stalled, OSError):
            return
        if plan is None:
            return
        for plug in self.plugs:
            try:
                self.engine.wanted.change(plug.name, plug.remembered(self.store.folder, plan.runtime))
            except OSError as error:
                self.say("warning", f"{plug.name}: cannot read what it wanted last: {error.strerror}")
            self.engine.leftovers.protect(plug.name, plug.scopes(plan.runtime))

    def listen(self, owner: str, told: Callable[[Sequence[Refused]], None]) -> None:
        """Set the function that tells a loop what it does not get, or no longer gets."""
        self._listeners[owner] = told

    def change(
        self, owner: str, put: Iterable[Resource] = (), drop: Iterable[ResourceName] = (), amend: Iterable[Amend] = ()
    ) -> tuple[list[Refused], Report | None]:
        """Change what a loop wants, and apply it at once, or after the suspension."""
        refused = self.engine.wanted.change(owner, put, drop, amend)
        return refused, self._moved()

    def replace(self, owner: str, resources: Iterable[Resource]) -> tuple[list[Refused], Report | None]:
        """Make these the only resources that a loop wants, and apply this like `change`."""
        refused = self.engine.wanted.replace(owner, resources)
        return refused, self._moved()

    def move(self, watched: Iterable[str], alive: frozenset[str]) -> Report | None:
        """Move traffic to the live ones of the watched tunnels. Returns None if nothing had to move."""
        self.engine.wanted.update_alive(watched, alive)
        report = self._moved()
        self.reporter.write_status()
        return report

    def _moved(self) -> Report | None:
        """Apply what is owed, unless the agent is suspended, and tell loops what was refused."""
        report = None if self._suspended() else self.engine.apply_owed()
        if report is not None:
            self._finish_move(report)
        self._tell()
        return report

    def _finish_move(self, report: Report) -> None:
        if not self.reporter.finish_move(report):
            self.finish(report)

    @property
    def behind(self) -> bool:
        """Whether a change needs a cycle: see `catch_up`."""
        return self.engine.delivery.behind and not self._suspended()

    def catch_up(self) -> Report | None:
        """Apply the changes that could not be applied at once."""
        report = None if self._suspended() else self.engine.catch_up()
        if report is not None:
            self.finish(report)
            self._moved()
        return report

    def point(self, changes: list[Change]) -> None:
        """Set the endpoints of peers whose names have moved."""
        if self._suspended():
            return
        for change in changes:
            self.say("info", f"the name of a silent peer moved: {change.resource.describe()}")
        try:
            failures = self.engine.delivery.set_endpoints(changes)
        except OSError as error:
            self.say("warning", f"cannot set an endpoint: {error}")
            return
        for failure in failures:
            self.say("warning", f"cannot set an endpoint: {failure.message}")

    def _tell(self) -> None:
        for refused in self.engine.wanted.refusals(self._listeners):
            self._listeners[refused.owner]([refused])

    # Cycles

    def restore(self, because: str = "") -> Report:
        """Restore the last confirmed plan, without git or network; see `Engine.restore`."""
        if self._suspended() and self.store.journal() is None:
            return self.converge()
        return self._finish_and_apply_owed(self.engine.restore(because))

    def judge(self) -> Report | None:
        """The result of the plan on trial; None if there is no such plan or no result yet."""
        report = self.engine.judge()
        return self.finish(report) if report else None

    def acquire(self) -> Acquired:
        """Fetch and compile. This may run in its own thread."""
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
        """Run one cycle, see `Engine.converge`. While the agent is suspended, nothing is changed."""
        hold = self._suspended() and not adopt
        report = self.engine.converge(acquired, kinds=kinds, cascade=cascade, devices=devices, adopt=adopt, hold=hold)
        return self.finish(report) if hold else self._finish_and_apply_owed(report)

    def sweep(self, kinds: Iterable[str]) -> Report | None:
        """Compare the unannounced kinds on the devices that are due. Devices with few peers are due often."""
        try:
            devices = self.engine.converger.devices_due()
        except CycleError as error:
            self.reporter.complain(error.message)
            return None
        # While the agent is suspended, all pending changes are shown.
        return self.converge(kinds=kinds, cascade=False, devices=None if self._suspended() else devices)

    def _finish_and_apply_owed(self, report: Report) -> Report:
        """Finish a cycle, then apply what tunnels and sessions have changed meanwhile."""
        self.finish(report)
        self._moved()
        self.catch_up()
        return report

    def resumed(self) -> bool:
        """Whether a suspension has ended since the last cycle."""
        return self.reporter.conditions.get("Suspended") is not None and not self._suspended()

    def _suspended(self) -> bool:
        return self.store.suspensions.current(self.clock()) is not None

    def once(self) -> Report:
        """Restore, fetch, and apply what is new. If nothing is new, a single reading of the kernel serves both."""
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

    def record(self, acquired: Acquired) -> Report:
        """Record a fetch that brought nothing to apply."""
        self.engine.newest = acquired.commit or self.engine.newest
        report = Report(acquired=acquired, newest=self.engine.newest, partial=True, says_nothing_of_the_plan=True)
        self.reporter.record(report)
        return report

    def finish(self, report: Report) -> Report:
        """Report on a cycle, and tell loops what they do not get."""
        self.reporter.finish(report)
        self._tell()
        if report.acquired is not None:
            report.acquired.candidate = None  # its plan has a few megabytes, and reports are kept
        return report
