"""The agent's services for one loop, in the thread that the loop runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from reconciler.base.log import Level
from reconciler.converge.diff import ResourceName
from reconciler.converge.wanted import Amend, Refused
from reconciler.kinds.base import Observed
from reconciler.loops.base import Loop, Plug, Row, TunnelNote
from reconciler.process.reconciler import Reconciler
from reconciler.report.conditions import Condition
from reconciler.report.report import Report
from reconciler.state.config import AgentConfig
from schema.plan import Key, Resource

T = TypeVar("T")


class HostGround:
    """`in_lane` runs a function while nobody else uses the kernel, and `in_cycle` one that may take as long as a cycle.
    `on_report` gets the report of each change, and schedules another reading after a failure."""

    def __init__(
        self,
        reconciler: Reconciler,
        plug: Plug,
        config: AgentConfig,
        in_lane: Callable[[Callable[[], Any]], Awaitable[Any]],
        in_cycle: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None,
        on_report: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self._reconciler = reconciler
        self._plug = plug
        self._in_lane = in_lane
        self._in_cycle = in_cycle or in_lane
        self._on_report = on_report
        self.config = config

    def make(self) -> Loop:
        """The loop, created with this ground."""
        made = self._plug.make(self)
        running = asyncio.get_running_loop()

        def told(refused: Sequence[Refused]) -> None:
            running.call_soon_threadsafe(made.refused, refused)

        self._reconciler.listen(self._plug.name, told)
        return made

    @property
    def settings(self) -> Any:
        return self._plug.settings(self._reconciler.engine.runtime)

    @property
    def folder(self) -> Path:
        return self._reconciler.store.folder

    @property
    def alive(self) -> frozenset[str]:
        return self._reconciler.engine.wanted.alive

    @property
    def out(self) -> frozenset[str]:
        return self._reconciler.engine.plans.out

    def observed(self, kind: str, device: str) -> Mapping[Key, Observed[Any]]:
        return self._reconciler.engine.mirror.on(kind, device)

    def adoptable(self) -> list[Observed[Any]]:
        engine = self._reconciler.engine
        return engine.leftovers.within(self._plug.scopes(engine.runtime))

    async def change(
        self, put: Iterable[Resource] = (), drop: Iterable[ResourceName] = (), amend: Iterable[Amend] = ()
    ) -> list[Refused]:
        return await self._applied(partial(self._reconciler.change, self._plug.name, put, drop, amend))

    async def replace(self, resources: Iterable[Resource]) -> list[Refused]:
        return await self._applied(partial(self._reconciler.replace, self._plug.name, resources))

    async def _applied(self, change: Callable[[], tuple[list[Refused], Report | None]]) -> list[Refused]:
        refused, report = await self._in_lane(change)
        await self._caught_up(report)
        return list(refused)

    async def _caught_up(self, report: Report | None) -> None:
        """Complete the part of a change that needs a cycle before this returns."""
        if self._reconciler.behind:
            report = await self._in_cycle(self._reconciler.catch_up) or report
        if report is not None:
            self._on_report(report)

    async def move(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        await self._caught_up(await self._in_lane(lambda: self._reconciler.move(watched, alive)))

    async def remark(self, type_: str, condition: Condition | None) -> None:
        await self._in_lane(lambda: self._reconciler.reporter.remark(type_, condition))

    async def in_lane(self, function: Callable[[], T]) -> T:
        found: T = await self._in_lane(function)
        return found

    def show(self, rows: list[Row]) -> None:
        self._reconciler.reporter.show(self._plug.name, rows)

    def annotate(self, tunnels: Mapping[str, TunnelNote]) -> None:
        self._reconciler.reporter.annotate_tunnels(tunnels)

    def serve_metrics(self, address: str, port: int) -> None:
        self._reconciler.reporter.serve_metrics(address, port)

    def say(self, level: Level, text: str) -> None:
        self._reconciler.say(level, text)
