"""The loop between a provider, a host and what is remembered: what carries is in the kernel, and outlives the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.loops.exits.loop import Exits, Tools
from reconciler.loops.exits.memory import Memory, remembered
from reconciler.loops.exits.overlay import OWNER
from reconciler.loops.exits.providers.base import Gateway, PortForward, ProviderError, Session
from reconciler.report import Acquired, Candidate
from reconciler.web import Request, Response, WebError
from schema.plan import HostPlan, Route, Runtime
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway, health, session
from tests.unit.reconciler.test_host import World

NEAR, FAR = gateway("uk/near", 1), gateway("nl/far", 2)
EXIT = an_exit(health=health(interval=0.2, timeout=0.2), hold=0.0)


class Provider:
    """Has two gateways, and takes every key unless told otherwise."""

    def __init__(self) -> None:
        self.error: ProviderError | None = None
        self.registered: list[str] = []
        self.released: list[str] = []

    def known(self) -> list[Gateway]:
        return []

    def discover(self) -> list[Gateway]:
        if self.error:
            raise self.error
        return [NEAR, FAR]

    def register(self, gateway: Gateway, public_key: str) -> Session:
        self.registered.append(gateway.id)
        return session(gateway)

    def renew(self, session: Session, public_key: str) -> Session:
        return session

    def release(self, session: Session) -> None:
        self.released.append(session.gateway.id)

    def forward(self, session: Session, dev: str) -> PortForward | None:
        return None


class Internet:
    """What the loop's tools reach: everything answers but what is silent."""

    def __init__(self) -> None:
        self.provider = Provider()
        self.silent: set[str] = set()
        """Devices through which nothing comes."""

    def measure(self, servers: Mapping[str, str]) -> Mapping[str, list[float | None]]:
        return {name: [0.01 if name == NEAR.id else 0.05] for name in servers}

    def http(self, request: Request) -> Response:
        if request.dev in self.silent:
            raise WebError("TimedOut", "nothing came")
        return Response(204, {}, b"")

    @property
    def tools(self) -> Tools:
        return Tools(lambda exit: self.provider, self.measure, self.http, lambda name: "192.0.2.80")


Script = Callable[[Exits], Awaitable[None]]


def play(world: World, internet: Internet, script: Script) -> None:
    """A script while an agent runs that has just started. Its end is a crash: nothing is tidied up."""
    world.start()
    world.host.engine.set_overlay(OWNER, remembered(world.folder, (EXIT,)))
    plan = HostPlan.of("h1", [], Runtime(exits=(EXIT,)))
    world.host.engine.converge(Acquired(commit="c1", candidate=Candidate.of("c1", plan)))

    async def in_kernel(function: Callable[[], Any]) -> Any:
        kept, _ = Memory(world.folder, EXIT.name).tunnels()
        result = function()
        assert way_out(world) is None or any(one.carrying for one in kept), "a crash now would forget what carries"
        return result

    async def main() -> None:
        exits = Exits(world.host, in_kernel, internet.tools, lambda report: None)
        task = asyncio.create_task(exits.run())
        async with asyncio.timeout(20):
            await script(exits)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await asyncio.sleep(0.001)


def carrying(exits: Exits) -> list[str]:
    return [t["gateway"] for row in exits.rows for t in row["tunnels"] if t["phase"] == "carrying"]


def way_out(world: World) -> str | None:
    """The device of the route that new flows take."""
    routes = [one.resource for one in world.kernel.observe("route")]
    return next((one.dev for one in routes if isinstance(one, Route) and one.table == EXIT.table), None)


async def connected(exits: Exits) -> None:
    await until(lambda: carrying(exits) == [NEAR.id])


def test_the_nearest_is_registered_with_and_carries(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()
    play(world, internet, connected)
    assert internet.provider.registered == [NEAR.id]
    assert way_out(world) == EXIT.slots[0].dev
    assert world.conditions()["Exits"] == "True:Connected"


def test_another_carries_once_it_has_proven_itself_where_one_falls_silent(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: Exits) -> None:
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

    async def script(exits: Exits) -> None:
        await until(lambda: world.conditions().get("Exits") == "False:SignatureWrong")
        assert carrying(exits) == [NEAR.id]

    play(world, internet, script)
    assert way_out(world) == EXIT.slots[0].dev


def test_an_exit_that_goes_takes_its_key_back_and_leaves_nothing(tmp_path: Path) -> None:
    world, internet = World(tmp_path), Internet()

    async def script(exits: Exits) -> None:
        await connected(exits)
        world.host.engine.exits = ()
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

    async def script(exits: Exits) -> None:
        await until(lambda: bool(exits.rows))
        (row,) = exits.rows
        assert row["trouble"]["reason"] == "KeyUnusable"

    play(world, internet, script)
    assert world.conditions()["Exits"] == "False:KeyUnusable"
