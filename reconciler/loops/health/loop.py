"""Sends the probes, hears the answers, and has traffic follow what the policy makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from reconciler.host import Host
from reconciler.loops.health.policy import Policy, Verdict
from reconciler.report import Report

IDLE = 1.0
"""Seconds between two looks at whether there is anything to watch."""
LEAST = 0.005
HANDSHAKES = 2.0
"""Seconds between two looks at the sessions that the engine reads anyway."""


class Echoes(Protocol):
    """Where probes go (`system/echo.py`)."""

    def fileno(self) -> int: ...
    def send(self, dev: str, source: str, target: str, sequence: int, size: int | None) -> None: ...
    def receive(self) -> list[tuple[str, int]]: ...
    def close(self) -> None: ...


class Health:
    """The health of this host's tunnels. `in_kernel` runs a function in the thread that the kernel is touched in."""

    def __init__(
        self,
        host: Host,
        in_kernel: Callable[[Callable[[], Any]], Awaitable[Any]],
        echo: Callable[[], Echoes],
        note: Callable[[Report], None] = lambda report: None,
    ) -> None:
        """`note` is told of every move of traffic, so that one that failed is tried again."""
        self.host = host
        self._in_kernel = in_kernel
        self._new_echo = echo
        self._policy = Policy()
        self._changed = asyncio.Event()
        self._said: object = None
        self._note = note
        self._verdicts: tuple[Verdict, ...] = ()
        host.verdicts = lambda: self._verdicts

    async def run(self) -> None:
        """Until cancelled. Raises OSError where probes cannot be sent."""
        loop = asyncio.get_running_loop()
        echo = self._new_echo()
        loop.add_reader(echo.fileno(), self._hear, echo)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._probe(echo))
                tasks.create_task(self._publish())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            loop.remove_reader(echo.fileno())
            echo.close()

    async def _probe(self, echo: Echoes) -> None:
        loop = asyncio.get_running_loop()
        policy, engine = self._policy, self.host.engine
        watches, looked = None, 0.0
        while True:
            now = loop.time()
            if engine.watches is not watches:
                watches = engine.watches
                policy.follow(watches, engine.alive, engine.out, now)
            if now - looked > HANDSHAKES:
                looked = now
                seen = engine.observed.get("peer", ())
                policy.handshakes({one.resource.dev: one.session.handshake_age for one in seen if one.session})
                self._verdicts = tuple(policy.verdicts())
            # What has come in is heard before anything is judged: this process may have been away for a while.
            self._hear(echo)
            self._look(now)
            for ask in policy.probes(now):
                echo.send(ask.dev, ask.source, ask.target, ask.sequence, ask.size)
            await asyncio.sleep(self._pause(loop.time()))

    def _pause(self, now: float) -> float:
        """Until there is something to send or to judge."""
        due = self._policy.due(now)
        return IDLE if due is None else max(LEAST, due - now)

    def _hear(self, echo: Echoes) -> None:
        now = asyncio.get_running_loop().time()
        for dev, sequence in echo.receive():
            self._policy.answered(dev, sequence, now)

    def _look(self, now: float) -> None:
        alive = self._policy.judge(now)
        said = alive, self._policy.reasons
        if said != self._said:
            self._said = said
            # Others read these in threads of their own: a tuple of what was, and not the policy that goes on.
            self._verdicts = tuple(self._policy.verdicts())
            self._changed.set()

    async def _publish(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            watched, alive = frozenset(self._policy.devices), self._policy.alive
            report = await self._in_kernel(lambda: self.host.move(watched, alive))  # noqa: B023 - awaited at once
            if report is not None:
                self._note(report)
