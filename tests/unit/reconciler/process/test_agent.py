from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.base.control import call
from reconciler.base.errors import Stalled
from reconciler.converge.touched import Touched
from reconciler.kinds import UNANNOUNCED
from reconciler.loops.exits import PLUG
from reconciler.loops.exits.loop import ExitsLoop
from reconciler.process import agent as module
from reconciler.process.agent import Agent
from reconciler.state.config import parse
from schema.plan import Firewall, HostPlan, Route, Runtime
from tests.unit.reconciler.loops.exits.test_loop import EXIT, Internet
from tests.unit.reconciler.process.test_reconciler import World
from tests.unit.reconciler.worlds import site


class Pipe:
    """A watch that says what a test tells it to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.kinds: set[str] = set()

    def filenos(self) -> list[int]:
        return [self.reader]

    def read(self) -> tuple[set[str], bool]:
        try:
            os.read(self.reader, 100)
        except BlockingIOError:
            return set(), False
        kinds, self.kinds = self.kinds, set()
        return kinds, False

    def tell(self, *kinds: str) -> None:
        self.kinds |= set(kinds)
        os.write(self.writer, b"x")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class Running:
    """An agent in this process, its socket, and a world around it."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, ())
        self.world.source.plan = lambda commit: (HostPlan.of("h1", site()), "")  # type: ignore[method-assign]
        self.socket = str(folder / "agent.sock")
        self.config = parse(
            f"{{host: h1, source: {{git: /w}}, socket: {self.socket}, metrics: off, poll: {{interval: 1h}}}}",
            "agent.yaml",
        )
        self.watch = Pipe()
        self.touched = Touched(self.watch)
        self.world.covered = self.touched.covered
        self.quiet = UNANNOUNCED

    def agent(self) -> Agent:
        return Agent(self.world.host, self.config, self.touched, self.quiet)

    def run(self, script: Callable[[Running], Awaitable[None]]) -> None:
        async def main() -> None:
            agent = asyncio.create_task(self.agent().run())
            async with asyncio.timeout(20):
                await self.until(lambda: Path(self.socket).exists())
                await script(self)
                await self.ask("stop")
                await agent

        try:
            asyncio.run(main())
        finally:
            self.watch.close()

    async def ask(self, command: str, **arguments: object) -> dict[str, object]:
        return await asyncio.to_thread(call, self.socket, command, 10.0, **arguments)

    async def until(self, there: Callable[[], bool]) -> None:
        while not there():
            await asyncio.sleep(0)

    def has(self, route: Route) -> bool:
        return route.key in self.world.kernel.stored["route"]


ROUTE = site()[4]
assert isinstance(ROUTE, Route)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(module, "DEBOUNCE", 0.0)
    return Running(tmp_path)


def test_it_applies_what_it_fetches_and_stops_without_touching_anything(running: Running) -> None:
    async def script(r: Running) -> None:
        await r.until(lambda: r.has(ROUTE))

    running.run(script)
    assert running.has(ROUTE)
    assert not Path(running.socket).exists()
    assert running.world.said[-1] == "info stopped; the network stays as it is"


def test_it_may_be_told_to_stop_before_its_jobs_have_begun(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = running.agent()

    def ready() -> None:
        asyncio.get_running_loop().call_soon(lambda: agent._stop.set())

    monkeypatch.setattr(agent.line, "ready", ready)
    asyncio.run(agent.run())
    assert running.world.said[-1] == "info stopped; the network stays as it is"


def test_an_event_has_the_kind_repaired(running: Running) -> None:
    async def script(r: Running) -> None:
        await r.until(lambda: r.has(ROUTE))
        await r.ask("cycle")
        r.world.kernel.remove(ROUTE)
        r.watch.tell("route")
        await r.until(lambda: r.has(ROUTE))
        await r.until(lambda: r.world.host.reporter.drift.by_kind == {"route": 1})

    running.run(script)


def test_peers_are_looked_at_without_an_event(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_INTERVAL", 0.0)

    async def script(r: Running) -> None:
        await r.until(lambda: r.has(ROUTE))
        r.world.kernel.remove(site()[3])
        await r.until(lambda: bool(r.world.kernel.stored["peer"]))

    running.run(script)


def test_the_firewall_is_polled_where_it_announces_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_INTERVAL", 0.0)
    running.quiet = UNANNOUNCED | {"firewall"}
    chain = Firewall(family="inet", table="filter", chain="GITWAN-INPUT", hook="INPUT")
    running.world.source.plan = lambda commit: (HostPlan.of("h1", [chain]), "")  # type: ignore[method-assign]

    async def script(r: Running) -> None:
        await r.until(lambda: bool(r.world.kernel.stored["firewall"]))
        r.world.kernel.remove(chain)
        await r.until(lambda: bool(r.world.kernel.stored["firewall"]))

    running.run(script)


def test_a_notification_brings_the_next_commit(running: Running) -> None:
    async def script(r: Running) -> None:
        await r.ask("cycle")
        r.world.source.commit = "c2"
        assert await r.ask("notify") == {"ok": True}
        await r.until(lambda: r.world.host.engine.newest == "c2")
        answer = await r.ask("cycle")
        status = answer["status"]
        assert isinstance(status, dict) and status["commit"] == "c2"
        assert answer["summary"] == "0 operations: nothing to change"

    running.run(script)


def test_it_restores_before_it_fetches(running: Running, tmp_path: Path) -> None:
    running.world.apply("c1")
    running.world.kernel.remove(ROUTE)
    running.world.source.error = Stalled("Fetched", "Timeout", "no answer")
    running.world.start()

    async def script(r: Running) -> None:
        await r.until(lambda: r.has(ROUTE))

    running.run(script)


def test_adopting_shows_first(running: Running) -> None:
    running.world.kernel.add(ROUTE.model_copy(update={"dev": "eth1"}), 4)

    async def script(r: Running) -> None:
        shown = await r.ask("adopt")
        assert shown["ok"]
        assert r.world.kernel.stored["route"][ROUTE.key].resource.dev == "eth1"
        assert (await r.ask("adopt", yes=True))["ok"]
        assert r.world.kernel.stored["route"][ROUTE.key].resource.dev == "wg0"

    running.run(script)


def test_retrying_forgets_what_was_rejected(running: Running) -> None:
    running.world.kernel.fail_next("route", 22, 3)

    async def script(r: Running) -> None:
        await r.until(lambda: bool(r.world.host.store.commits.rejected()))
        assert (await r.ask("cycle"))["ok"] is False
        assert (await r.ask("retry"))["ok"] is True

    running.run(script)
    assert running.has(ROUTE)


def test_a_job_that_stumbles_is_logged_and_goes_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_RETRY", 0.0)
    acquire = running.world.host.acquire

    def stumble() -> object:
        running.world.host.acquire = acquire  # type: ignore[method-assign]
        raise RuntimeError("a bug")

    running.world.host.acquire = stumble  # type: ignore[method-assign,assignment]

    async def script(r: Running) -> None:
        await r.until(lambda: r.has(ROUTE))

    running.run(script)
    assert "error poll: RuntimeError: a bug" in running.world.said


def test_an_exit_that_is_not_there_is_an_error(running: Running) -> None:
    plan = HostPlan.of("h1", [], Runtime(exits=(EXIT,)))
    running.world.source.plan = lambda commit: (plan, "")  # type: ignore[method-assign]
    running.world.host.plugs = (replace(PLUG, make=lambda ground: ExitsLoop(ground, Internet().tools)),)

    async def script(r: Running) -> None:
        while not (await r.ask("exits")).get("gateways"):
            pass
        for order in ("", "next"):
            found = await r.ask("exits", exit="typo", order=order)
            assert (found["ok"], found["error"]) == (False, "there is no exit typo, but pia")
        assert (await r.ask("exits", exit="pia"))["ok"]

    running.run(script)
