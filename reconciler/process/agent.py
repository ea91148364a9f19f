"""The agent: schedules the reconciler's work on one asyncio loop. One thread at a time holds the lane to the kernel;
git runs in a thread of its own.

start      restore the last confirmed plan from disk
poll       fetch every `interval`, with jitter, or on request; converge if the commit is new
events     the kernel announces a change: compare the affected kinds at once
quiet      compare unannounced kinds every 2 s; resolve the names of silent peers again
full       compare everything every few minutes, and sooner after a failure
loops      a loop's change overtakes a cycle that waits for an answer
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from reconciler.base.control import Reply
from reconciler.base.errors import CycleError, Waiting
from reconciler.converge.endpoints import LookupSchedule, NameLookup, decide
from reconciler.converge.touched import Touched
from reconciler.cycle import preview
from reconciler.kinds import UNANNOUNCED
from reconciler.loops.base import Loop, Plug
from reconciler.process.ground import HostGround
from reconciler.process.parent import BEAT
from reconciler.process.reconciler import TRIAL_INTERVAL, Reconciler
from reconciler.process.server import Handler, serve
from reconciler.report.report import Acquired, Report
from reconciler.state.config import AgentConfig

T = TypeVar("T")

DEBOUNCE = 0.06
"""Seconds to collect events before reading: a deleted link takes dozens of objects with it."""
REST = 4.0
"""Rest for REST times the duration of the last reading, at most LONGEST_REST seconds."""
LONGEST_REST = 0.5
QUIET_INTERVAL = 2.0
STATUS_INTERVAL = 10.0
"""Maximum seconds between two status files: handshakes age even if nothing happens."""
RESOLVE_TIMEOUT = 5.0
FIRST_RETRY = 2.0
LONGEST_RETRY = 120.0
DOUBLINGS = 10
"""Maximum number of times that a pause doubles."""


class Agent:
    """Runs until it is told to stop, and then leaves the network as it is."""

    def __init__(
        self,
        reconciler: Reconciler,
        config: AgentConfig,
        touched: Touched,
        quiet: frozenset[str] = UNANNOUNCED,
    ) -> None:
        """`quiet` are the kinds that must be polled."""
        self.reconciler = reconciler
        self.config = config
        self.touched = touched
        self.quiet = quiet
        self.plugs = reconciler.plugs
        self.line = reconciler.engine.line
        self.resolver = LookupSchedule()
        self._cycles = ThreadPoolExecutor(1, "cycle")
        self._moves = ThreadPoolExecutor(1, "move")
        self._git = ThreadPoolExecutor(1, "source")
        self._loops: dict[str, Loop] = {}
        self._retries = 0

    async def run(self) -> None:
        """Run until `stop`. Raises OSError if the socket cannot be created."""
        clock = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._look_now = asyncio.Event()
        self._on_trial = asyncio.Event()
        self._full_at = clock.time() + self.config.full_cycle
        self._full_changed = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            clock.add_signal_handler(number, self._stop.set)
        for descriptor in self.touched.filenos():
            clock.add_reader(descriptor, self._event)
        server = await serve(self.config.socket, self._handlers())
        self._retry_soon(await self._cycle(self.reconciler.restore))
        self.line.ready()
        jobs = (self._poll, self._events, self._quiet, self._full, self._trial, self._beat)
        tasks = [asyncio.create_task(self._forever(job, job.__name__.strip("_"))) for job in jobs]
        for plug in self.plugs:
            loop = HostGround(self.reconciler, plug, self.config, self._move, self._cycle, self._retry_soon).make()
            self._loops[plug.name] = loop
            tasks.append(asyncio.create_task(self._forever(loop.run, plug.name)))
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        self.config.socket.unlink(missing_ok=True)
        self._cycles.shutdown(wait=True)
        self._moves.shutdown(wait=True)
        self._git.shutdown(wait=False, cancel_futures=True)
        self.reconciler.say("info", "stopped; the network stays as it is")

    def poll_now(self) -> None:
        """Fetch now, without waiting for the next poll."""
        self._poll_now.set()

    def stop(self) -> None:
        """Make `run` return; the network stays as it is."""
        self._stop.set()

    async def _forever(self, job: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run a job until the agent stops. An unexpected exception is logged, and the job starts again."""
        while not self._stop.is_set():
            try:
                await job()
            except Exception as error:
                self.reconciler.say("error", f"{name}: {type(error).__name__}: {error}")
                await asyncio.sleep(LONGEST_RETRY / 4)

    async def _cycle(self, function: Callable[[], T]) -> T:
        """Run a cycle after the previous one; while it waits for an answer, moves overtake it."""
        try:
            return await self._in(self._cycles, partial(self._holding, function))
        finally:
            if self.reconciler.engine.trial is not None:
                self._on_trial.set()

    async def _move(self, function: Callable[[], T]) -> T:
        """Run a short function that waits for nothing except the lane."""
        return await self._in(self._moves, partial(self._holding, function))

    def _holding(self, function: Callable[[], T]) -> T:
        with self.reconciler.engine.lane.hold():
            return function()

    async def _in(self, thread: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, function)

    # Poll the source

    async def _poll(self) -> None:
        poll, failures = self.config.poll, 0
        while True:
            self._poll_now.clear()
            report = await self._acquire_and_converge(full=False)
            pause = max(1.0, poll.interval + random.uniform(-poll.jitter, poll.jitter))
            # A source that fails is asked again sooner at first: at boot it may come up a moment later.
            failed = report.acquired is not None and report.acquired.error is not None
            failures = failures + 1 if failed else 0
            if failed:
                pause = min(pause, FIRST_RETRY * 2.0 ** min(failures - 1, DOUBLINGS) * random.uniform(0.8, 1.2))
            await _wait(self._poll_now, pause)

    async def _acquire_and_converge(self, *, full: bool) -> Report:
        acquired: Acquired = await self._in(self._git, self.reconciler.acquire)
        if acquired.candidate is not None or full:
            report = await self._cycle(lambda: self.reconciler.converge(acquired))
            self._retry_soon(report)
            return report
        return await self._cycle(lambda: self.reconciler.record(acquired))

    # Events

    def _event(self) -> None:
        if self.touched.hear():
            self._look_now.set()

    async def _events(self) -> None:
        while True:
            await self._look_now.wait()
            await asyncio.sleep(DEBOUNCE)
            self._look_now.clear()
            kinds = self._held_back(self.touched.kinds())
            if kinds:
                report = await self._cycle(partial(self.reconciler.converge, kinds=kinds))
                self._retry_soon(report)
                # If foreign routes change all the time, reading them may use a limited share of one core.
                await asyncio.sleep(min(LONGEST_REST, REST * report.seconds))

    def _held_back(self, kinds: set[str]) -> set[str]:
        """The kinds to read now. A kind that another program keeps undoing waits, and is read later."""
        waits = {k: s for k, s in self.reconciler.reporter.contest.delay(time.time()).items() if k in kinds}
        if waits:
            asyncio.get_running_loop().call_later(max(waits.values()), self._look_now.set)
            if self._cooling(waits):
                return kinds - waits.keys()
        return kinds

    def _cooling(self, waits: dict[str, float]) -> bool:
        """Whether the pause after the last repair of these kinds is not over yet."""
        now = time.monotonic()
        if now < self._cool_until:
            return True
        self._cool_until = now + max(waits.values())
        return False

    _cool_until = 0.0

    # Plans on trial, and signs of life for the parent

    async def _trial(self) -> None:
        while True:
            await self._on_trial.wait()
            self._on_trial.clear()
            await asyncio.sleep(TRIAL_INTERVAL)
            if self.reconciler.engine.trial is not None and (report := await self._cycle(self.reconciler.judge)):
                self._retry_soon(report)

    async def _beat(self) -> None:
        """Tell the parent regularly that the agent is alive and gets the lane."""
        while True:
            await self._move(self.line.alive)
            await asyncio.sleep(BEAT)

    # Unannounced kinds

    async def _quiet(self) -> None:
        written = time.monotonic()
        while True:
            await asyncio.sleep(QUIET_INTERVAL)
            kinds = self._held_back(set(self.quiet))
            if kinds and (report := await self._cycle(partial(self.reconciler.sweep, kinds))):
                self._retry_soon(report)
            await self._resolve()
            if self.reconciler.resumed():
                self._full_at = asyncio.get_running_loop().time()
                self._full_changed.set()
            if time.monotonic() - written > STATUS_INTERVAL:
                written = time.monotonic()
                await self._move(self.reconciler.reporter.write_status)

    async def _resolve(self) -> None:
        """Look up the names of silent peers, and set their endpoints to the current addresses."""
        named, seen = await self._move(self.reconciler.engine.delivery.named_peers)
        due = self.resolver.due(named, seen, time.monotonic())
        answers = await asyncio.gather(*(_addresses(lookup) for lookup in due))
        changes = [change for lookup, found in zip(due, answers, strict=True) if (change := decide(lookup, found))]
        if changes:
            await self._move(lambda: self.reconciler.point(changes))

    # Full cycles

    async def _full(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._full_changed.clear()
            if await _wait(self._full_changed, self._full_at - loop.time()):
                continue
            self._full_at = loop.time() + self.config.full_cycle
            self._retry_soon(await self._cycle(self.reconciler.converge))

    def _retry_soon(self, report: Report) -> None:
        """After a failure, schedule a full cycle soon; the pauses grow."""
        error = report.error
        if (error is None or report.rolled_back) and not report.unmet:
            if not report.partial:
                self._retries = 0
            return
        pause = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(self._retries, DOUBLINGS)) * random.uniform(0.8, 1.2)
        if isinstance(error, Waiting):
            pause = error.retry_after
        self._retries += 1
        loop = asyncio.get_running_loop()
        if loop.time() + pause < self._full_at:
            self._full_at = loop.time() + pause
            self._full_changed.set()

    # The socket

    def _handlers(self) -> dict[str, Handler]:
        orders: dict[str, Handler] = {plug.name: partial(self._on_order, plug) for plug in self.plugs if plug.orders}
        return orders | {
            "notify": self._on_notify,
            "status": self._on_status,
            "cycle": self._on_cycle,
            "retry": self._on_retry,
            "adopt": self._on_adopt,
            "stop": self._on_stop,
        }

    async def _on_notify(self, request: dict[str, Any]) -> Reply:
        self.poll_now()
        return {"ok": True}

    async def _on_status(self, request: dict[str, Any]) -> Reply:
        return {"ok": True, "status": await self._move(self.reconciler.reporter.status)}

    async def _on_cycle(self, request: dict[str, Any]) -> Reply:
        report = await self._acquire_and_converge(full=True)
        status = await self._move(self.reconciler.reporter.status)
        return {"ok": report.ok, "report": report.json(), "status": status, "summary": report.summary()}

    async def _on_retry(self, request: dict[str, Any]) -> Reply:
        await self._in(self._git, self.reconciler.acquirer.retry)
        return await self._on_cycle(request)

    async def _on_adopt(self, request: dict[str, Any]) -> Reply:
        acquired = await self._in(self._git, self.reconciler.acquire)
        try:
            found = await self._cycle(lambda: preview.adoption(self.reconciler.engine, acquired))
        except CycleError as error:
            return {"ok": False, "error": error.message}
        answer: Reply = {"ok": True, "changes": [change.describe() for change in found]}
        if request.get("yes"):
            report = await self._cycle(lambda: self.reconciler.converge(acquired, adopt=True))
            answer |= {"ok": report.ok, "summary": report.summary()}
        return answer

    async def _on_order(self, plug: Plug, request: dict[str, Any]) -> Reply:
        loop = self._loops.get(plug.name)
        return loop.order(request) if loop else {"ok": False, "error": f"this agent looks after no {plug.name}"}

    async def _on_stop(self, request: dict[str, Any]) -> Reply:
        asyncio.get_running_loop().call_soon(self.stop)
        return {"ok": True}


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event. Returns whether it came within the time."""
    # Not wait_for: before Python 3.12 it loses a cancellation that comes at the same moment as the event.
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _addresses(lookup: NameLookup) -> list[str]:
    """The current addresses of a name, in the resolver's order; empty if it does not resolve."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(lookup.host, lookup.port, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return []
    return [str(info[4][0]) for info in found]
