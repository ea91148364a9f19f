"""The loop between a provider, a host and what is remembered: what carries is in the kernel, and outlives the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.base.web import Request, Response, WebError
from reconciler.loops.exits import PLUG
from reconciler.loops.exits.loop import ExitsLoop
from reconciler.loops.exits.memory import Memory, remembered
from reconciler.loops.exits.providers.base import Gateway, PortForward, ProviderError, Registration
from reconciler.loops.exits.run import Tools
from reconciler.process.status import ok
from reconciler.report.report import Acquired, Candidate
from schema.plan import Exit, HostPlan, Route, Runtime
from schema.plan.base import Family
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway, health, session
from tests.unit.reconciler.process.test_reconciler import World
from tests.unit.reconciler.worlds import ground

NEAR, FAR = gateway("uk/near", 1), gateway("nl/far", 2)
EXIT = an_exit(health=health(interval=0.2, timeout=0.2), hold=0.0)


class Provider:
    """Has two gateways, and takes every key unless told otherwise."""

    def __init__(self) -> None:
        self.error: ProviderError | None = None
        self.registered: list[str] = []
        self.released: list[str] = []
        self.bug: dict[str, Exception] = {}
        """What each call fails with at first, which nobody foresaw."""
        self.gateways = [NEAR, FAR]

    def _fail(self, call: str) -> None:
        if call in self.bug:
            raise self.bug.pop(call)

    def known(self) -> list[Gateway]:
        return []

    def discover(self) -> list[Gateway]:
        self._fail("discover")
        if self.error:
            raise self.error
        return self.gateways

    def register(self, gateway: Gateway, public_key: str) -> Registration:
        self._fail("register")
        self.registered.append(gateway.id)
        return session(gateway)

    def renew(self, session: Registration, public_key: str) -> Registration:
        return session

    def release(self, session: Registration) -> None:
        self._fail("release")
        self.released.append(session.gateway.id)

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        self._fail("forward")
        return None


class Internet:
    """What the loop's tools reach: everything answers but what is silent."""

    def __init__(self) -> None:
        self.provider = Provider()
        self.silent: set[str] = set()
        """Devices through which nothing comes."""
        self.bug: Exception | None = None
        self.unusable: ProviderError | None = None
        """Why there is no provider."""
        self.nameless = False
        """Whether no name can be looked up."""

    def measure(self, mark: int, servers: Mapping[str, str]) -> Mapping[str, list[float | None]]:
        return {name: [0.01 if name == NEAR.id else 0.05] for name in servers}

    def http(self, request: Request) -> Response:
        if self.bug:
            raise self.bug
        if request.dev in self.silent:
            raise WebError("TimedOut", "nothing came")
        return Response(204, {}, b"")

    def resolve(self, name: str, family: Family) -> str:
        if self.nameless:
            raise OSError("no such name")
        return "192.0.2.80"

    def ask_name(self, server: str, name: str, family: Family, dev: str, seconds: float) -> str:
        raise OSError("no such name")

    def built(self, exit: Exit) -> Provider:
        if self.unusable:
            raise self.unusable
        return self.provider

    @property
    def tools(self) -> Tools:
        return Tools(self.built, self.measure, self.http, self.resolve, self.ask_name)


Script = Callable[[ExitsLoop], Awaitable[None]]


def plan(world: World, commit: str, exit: Exit) -> None:
    """A commit says how the exit is to be."""
    found = HostPlan.of("h1", [], Runtime(exits=(exit,)))
    world.host.engine.converge(Acquired(commit=commit, candidate=Candidate.of(commit, found)))


def play(world: World, internet: Internet, script: Script, exit: Exit = EXIT) -> None:
    """A script while an agent runs that has just started. Its end is a crash: nothing is tidied up."""
    world.start()
    world.host.engine.wanted.replace("exits", remembered(world.folder, (exit,)))
    plan(world, "c1", exit)

    async def in_kernel(function: Callable[[], Any]) -> Any:
        kept, _ = Memory(world.folder, EXIT.name).tunnels()
        result = function()
        assert way_out(world) is None or any(one.carrying for one in kept), "a crash now would forget what carries"
        return result

    async def main() -> None:
        exits = ExitsLoop(ground(world.host, PLUG, in_kernel), internet.tools)
        task = asyncio.create_task(exits.run())
        async with asyncio.timeout(20):
            await script(exits)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await asyncio.sleep(0.001)


def carrying(exits: ExitsLoop) -> list[str]:
    return [t["gateway"] for row in exits.rows for t in row["tunnels"] if t["phase"] == "carrying"]


def way_out(world: World) -> str | None:
    """The device of the route that new flows take."""
    routes = [one.resource for one in world.kernel.observe("route")]
    return next((one.dev for one in routes if isinstance(one, Route) and one.table == EXIT.table), None)


async def connected(exits: ExitsLoop) -> None:
    await until(lambda: carrying(exits) == [NEAR.id])


def test_the_nearest_is_registered_with_and_carries(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    play(world, internet, connected)
    assert internet.provider.registered == [NEAR.id]
    assert way_out(world) == EXIT.slots[0].dev
    assert world.conditions()["Exits"] == "True:Connected"


def test_another_carries_once_it_has_proven_itself_where_one_falls_silent(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: ExitsLoop) -> None:
        await connected(exits)
        internet.silent = {EXIT.slots[0].dev}
        await until(lambda: carrying(exits) == [FAR.id])

    play(world, internet, script)
    assert way_out(world) == EXIT.slots[1].dev


def test_an_agent_that_starts_again_changes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    play(world, internet, connected)
    operations = world.kernel.operations
    internet.provider.error = ProviderError("HttpError", "answers with HTTP 500")
    play(world, internet, connected)
    assert world.kernel.operations == operations
    assert internet.provider.registered == [NEAR.id]


def test_a_provider_that_fails_is_said_and_what_carries_stays(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    play(world, internet, connected)
    internet.provider.error = ProviderError("SignatureWrong", "the list is signed by another key")

    async def script(exits: ExitsLoop) -> None:
        await until(lambda: world.conditions().get("Exits") == "False:SignatureWrong")
        assert carrying(exits) == [NEAR.id]

    play(world, internet, script)
    assert way_out(world) == EXIT.slots[0].dev


def test_an_exit_that_nobody_has_looked_at_yet_does_not_count_as_well(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    world.start()
    found = HostPlan.of("h1", [], Runtime(exits=(EXIT,)))
    world.host.converge(Acquired(commit="c1", candidate=Candidate.of("c1", found)))
    assert world.conditions()["Exits"] == "Unknown:Starting"
    assert not ok(world.host.reporter.status())

    async def script(exits: ExitsLoop) -> None:
        await connected(exits)
        world.host.converge()

    play(world, internet, script)
    assert world.conditions()["Exits"] == "True:Connected"


def test_an_exit_that_goes_takes_its_key_back_and_leaves_nothing(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: ExitsLoop) -> None:
        await connected(exits)
        world.host.engine.runtime = Runtime()
        await until(lambda: not exits.rows and bool(internet.provider.released))
        await until(lambda: not Memory(world.folder, EXIT.name).tunnels()[0])

    play(world, internet, script)
    assert internet.provider.released == [NEAR.id]
    assert way_out(world) is None
    assert "Exits" not in world.conditions()


def test_an_exit_whose_key_cannot_be_made_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    folder = world.folder / "exits" / EXIT.name
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where a folder should be")

    async def script(exits: ExitsLoop) -> None:
        await until(lambda: bool(exits.rows))
        (row,) = exits.rows
        assert row["trouble"]["reason"] == "KeyUnusable"

    play(world, internet, script)
    assert world.conditions()["Exits"] == "False:KeyUnusable"


def test_an_exit_whose_provider_is_not_spoken_to_is_said(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    internet.unusable = ProviderError("ProviderUnusable", "no adapter")

    async def script(exits: ExitsLoop) -> None:
        await until(lambda: bool(exits.rows))

    play(world, internet, script)
    assert world.conditions()["Exits"] == "False:ProviderUnusable"


SECRET = "s3cret-token"


@pytest.mark.parametrize("call", ["discover", "register"])
def test_what_nobody_foresaw_is_a_failure_like_any_other_and_its_words_stay_inside(tmp_path: Path, call: str) -> None:
    world, internet = World(tmp_path), Internet()
    internet.provider.bug = {call: KeyError(SECRET)}
    text = f"{call} fails in a way that nobody foresaw (KeyError)"

    async def script(exits: ExitsLoop) -> None:
        await until(lambda: f"error exit pia: {text}" in world.said)
        if call == "register":
            await until(lambda: carrying(exits) == [FAR.id])
        else:
            await until(lambda: exits.rows[0]["trouble"] == {"reason": "Unforeseen", "message": text})

    play(world, internet, script)
    assert not any(SECRET in said for said in world.said)


def test_a_port_is_asked_for_again_after_what_nobody_foresaw(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    internet.provider.bug = {"forward": ZeroDivisionError()}
    internet.provider.gateways = [replace(NEAR, port_forward=True)]

    async def script(exits: ExitsLoop) -> None:
        await until(lambda: any(row.get("port_trouble") for row in exits.rows))
        (run,) = exits._runs.values()
        assert not run.forwarding.asking and run.forwarding.trouble is not None
        assert run.forwarding.trouble.reason == "Unforeseen"

    play(world, internet, script, EXIT.model_copy(update={"port_forward": True}))


def test_probes_that_nobody_foresaw_to_fail_are_no_answer(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: ExitsLoop) -> None:
        await connected(exits)
        internet.bug = ValueError(SECRET)
        await until(lambda: exits.rows[0]["tunnels"][0]["strikes"] > 0)
        internet.bug = None
        await until(lambda: not exits.rows[0]["tunnels"][0]["strikes"] and not exits.rows[0]["trouble"])

    play(world, internet, script)


def test_a_check_that_nobody_can_look_up_is_said(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    internet.nameless = True

    async def script(exits: ExitsLoop) -> None:
        await until(lambda: world.conditions().get("Exits") == "False:NameUnknown")
        internet.nameless = False
        await until(lambda: world.conditions().get("Exits") == "True:Connected")

    named = EXIT.health.model_copy(update={"check": "http://check.example/"})
    play(world, internet, script, EXIT.model_copy(update={"health": named}))


def test_an_exit_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: ExitsLoop) -> None:
        await connected(exits)
        assert exits.unknown("typo") == exits.next("typo") == "there is no exit typo, but pia"
        assert exits.unknown("pia") == exits.unknown(None) == ""

    play(world, internet, script)


def changed(use: int) -> Exit:
    return an_exit(use, health=EXIT.health, hold=0.0)


def test_fewer_gateways_at_once_are_those_that_are_well_and_the_rest_goes(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    two = changed(2)

    async def script(exits: ExitsLoop) -> None:
        plan(world, "c2", two)
        await until(lambda: sorted(carrying(exits)) == [FAR.id, NEAR.id])
        internet.silent = {two.slots[0].dev}
        near = exits._runs[EXIT.name].policy.tunnels[0]
        await until(lambda: near.pulse.degraded)
        plan(world, "c3", EXIT)
        await until(lambda: carrying(exits) == [FAR.id])
        internet.silent = {EXIT.slots[1].dev}
        await until(lambda: carrying(exits) == [NEAR.id])

    play(world, internet, script)
    assert way_out(world) == EXIT.slots[0].dev


def test_more_gateways_at_once_leave_what_carries_alone(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: ExitsLoop) -> None:
        await connected(exits)
        plan(world, "c2", changed(2))
        await until(lambda: carrying(exits) == [NEAR.id, FAR.id])

    play(world, internet, script)
    assert internet.provider.registered == [NEAR.id, FAR.id]
