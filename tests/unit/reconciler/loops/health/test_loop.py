"""The loop between an echo socket and a host: what died is told, and what came back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from reconciler.loops.health import PLUG
from reconciler.loops.health.loop import HealthLoop
from reconciler.report.report import Acquired, Candidate
from reconciler.state.suspension import Suspension
from schema.plan import Runtime
from tests.fakes import FakeHost
from tests.unit.reconciler.converge.test_groups import DEVS, THREE, in_kernel
from tests.unit.reconciler.process.test_reconciler import World
from tests.unit.reconciler.worlds import ground, key


class Network:
    """Answers every probe at once, but for those of some devices."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.reader, self.writer = os.pipe()
        self.answers: list[tuple[str, int]] = []
        self.sent = 0
        self.kernel_is_free = asyncio.Event()
        self.kernel_is_free.set()

    def fileno(self) -> int:
        return self.reader

    def send(self, dev: str, source: str, target: str, sequence: int, size: int | None) -> None:
        assert (source, target) == ("fe80::1", "fe80::2")
        self.sent += 1
        if dev not in self.silent:
            self.answers.append((dev, sequence))
            os.write(self.writer, b"x")

    def receive(self) -> list[tuple[str, int]]:
        found, self.answers = self.answers, []
        if found:
            os.read(self.reader, 65536)
        return found

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def play(folder: Path, script: Callable[[World, Network], Awaitable[None]]) -> World:
    world, network = World(folder), Network()
    world.host.engine.converge(Acquired(commit="c1", candidate=Candidate.of("c1", THREE)))

    async def in_turn(function: Callable[[], Any]) -> Any:
        await network.kernel_is_free.wait()
        return function()

    async def main() -> None:
        task = asyncio.create_task(HealthLoop(ground(world.host, PLUG, in_turn), lambda: network).run())
        async with asyncio.timeout(20):
            await script(world, network)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    return world


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await asyncio.sleep(0.001)


def kernel(world: World) -> FakeHost:
    return world.kernel


def test_traffic_leaves_a_tunnel_that_falls_silent_and_the_condition_says_which(tmp_path: Path) -> None:
    async def script(world: World, network: Network) -> None:
        await until(lambda: set(DEVS[:3]) <= world.host.engine.wanted.alive)
        assert in_kernel(kernel(world)) == (1, 2, 3)
        network.silent = {"wg2"}
        await until(lambda: in_kernel(kernel(world)) == (1, 3))

    world = play(tmp_path, script)
    condition = world.host.reporter.conditions.get("Tunnels")
    assert condition is not None and (condition.status, condition.reason) == ("False", "Silent")
    assert condition.message == "wg2 of a~b: no answer through it"
    rows = {row["device"]: row for row in world.host.reporter.status()["tunnels"]}
    assert rows["wg2"]["probe"]["alive"] is False and rows["wg1"]["probe"]["rtt"] is not None


def test_a_tunnel_that_answers_is_up_once_it_has_its_traffic(tmp_path: Path) -> None:
    async def script(world: World, network: Network) -> None:
        for dev in DEVS:
            kernel(world).handshake(dev, key(9))
        world.host.converge()
        assert not any(row["probe"] or row["up"] for row in world.host.reporter.status()["tunnels"])
        network.kernel_is_free.clear()
        await until(
            lambda: any(row["probe"] and row["probe"]["alive"] for row in world.host.reporter.status()["tunnels"])
        )
        assert not any(row["up"] for row in world.host.reporter.status()["tunnels"])
        network.kernel_is_free.set()
        await until(lambda: all(row["up"] for row in world.host.reporter.status()["tunnels"]))
        assert in_kernel(kernel(world)) == (1, 2, 3)

    play(tmp_path, script)


def test_nothing_moves_while_the_agent_is_suspended(tmp_path: Path) -> None:
    async def script(world: World, network: Network) -> None:
        await until(lambda: set(DEVS[:3]) <= world.host.engine.wanted.alive)
        world.host.store.suspensions.suspend(Suspension(world.host.clock() + 3600, "by hand"))
        network.silent = {"wg2"}
        await until(lambda: "wg2" not in world.host.engine.wanted.alive)
        sent = network.sent
        await until(lambda: network.sent > sent + 4)

    assert in_kernel(kernel(play(tmp_path, script))) == (1, 2, 3)


def test_where_nothing_is_watched_nothing_is_sent(tmp_path: Path) -> None:
    async def script(world: World, network: Network) -> None:
        await until(lambda: network.sent > 0)
        world.host.engine.runtime = Runtime()
        await until(lambda: not any(row["probe"] for row in world.host.reporter.status()["tunnels"]))
        sent = network.sent
        for _ in range(100):
            await asyncio.sleep(0)
        assert network.sent == sent

    play(tmp_path, script)
