"""Sends probes, receives answers, and moves traffic to the tunnels that the policy finds alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from reconciler.base.words import and_more
from reconciler.loops.base import Ground, Quiet, TunnelNote
from reconciler.loops.health.policy import HealthPolicy, Verdict
from reconciler.report.conditions import Condition

IDLE = 1.0
"""Seconds between two checks for tunnels to watch."""
LEAST = 0.005
HANDSHAKES = 2.0
"""Seconds between two readings of the sessions, which the engine reads anyway."""


class Echoes(Protocol):
    """Sends and receives probes (`system/echo.py`)."""

    def fileno(self) -> int: ...
    def send(self, dev: str, source: str, target: str, sequence: int, size: int | None) -> None: ...
    def receive(self) -> list[tuple[str, int]]: ...
    def close(self) -> None: ...


class HealthLoop(Quiet):
    """The health of this host's tunnels."""

    def __init__(self, ground: Ground, echo: Callable[[], Echoes]) -> None:
        self._ground = ground
        self._new_echo = echo
        self._policy = HealthPolicy()
        self._changed = asyncio.Event()
        self._said: object = None
        self._devices: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Probe the tunnels until cancelled. Raises OSError if probes cannot be sent."""
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
        policy, ground = self._policy, self._ground
        watches, looked = None, 0.0
        while True:
            now = loop.time()
            if ground.settings is not watches:
                watches = ground.settings
                policy.follow(watches, ground.alive, ground.out, now)
                self._devices = frozenset(policy.devices)
            if now - looked > HANDSHAKES:
                looked = now
                policy.handshakes(self._handshakes())
                ground.annotate(_notes(policy.verdicts()))
            # Received answers are processed before tunnels are judged: this process may have been paused.
            self._hear(echo)
            self._look(now)
            for ask in policy.probes(now):
                echo.send(ask.dev, ask.source, ask.target, ask.sequence, ask.size)
            await asyncio.sleep(self._pause(loop.time()))

    def _pause(self, now: float) -> float:
        """Seconds until there is something to send or to judge."""
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
            self._ground.annotate(_notes(self._policy.verdicts()))
            self._changed.set()

    def _handshakes(self) -> dict[str, float | None]:
        """Seconds since the last handshake of each watched tunnel, at the engine's last reading."""
        seen = (one for dev in self._devices for one in dict(self._ground.observed("peer", dev)).values())
        return {one.resource.dev: one.session.handshake_age for one in seen if one.session}

    async def _publish(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            policy = self._policy
            verdicts = list(policy.verdicts())
            await self._ground.move(frozenset(policy.devices), policy.alive)
            await self._ground.remark("Tunnels", conclude(verdicts))


def _notes(verdicts: Iterable[Verdict]) -> dict[str, TunnelNote]:
    return {one.dev: TunnelNote(one.alive, one.text, one.rtt, one.loss) for one in verdicts}


def conclude(verdicts: Sequence[Verdict]) -> Condition | None:
    """The condition for the watched tunnels that are dead, with the reasons; None if no tunnel is watched."""
    if not verdicts:
        return None
    dead = [verdict for verdict in verdicts if not verdict.alive]
    if not dead:
        return Condition("Tunnels", "True", "Alive", f"{len(verdicts)} of {len(verdicts)} carry traffic")
    first = dead[0]
    more = and_more(dead)
    return Condition("Tunnels", "False", first.reason, f"{first.dev} of {first.link}: {first.text}{more}")
