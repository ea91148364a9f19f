"""A loop that is written here, and given to the agent through the tuple only, works whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from typer.testing import CliRunner

import gitwan
from reconciler import loops
from reconciler.converge.wanted import Refused, Scope
from reconciler.loops.base import Ground, Loop, Plug, Reply
from reconciler.process.status import ok, render
from reconciler.report.conditions import Condition
from schema.plan import Change, HostPlan, Key, Peer, ProbeTarget, Resource, Route, Runtime
from tests.unit.reconciler.process.test_agent import Running
from tests.unit.reconciler.worlds import NOW, key, site

GUESTS = 20
"""Peers from this number on are guests, which the loop lets in when it is ordered to."""


class Guests:
    """Lets guests in by order, keeps those that an earlier life let in, and says how many there are."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.wanted: dict[Key, Peer] = {}
        self.orders: asyncio.Queue[int] = asyncio.Queue()
        self.told: list[Refused] = []

    async def run(self) -> None:
        left = [one.resource for one in self.ground.adoptable() if isinstance(one.resource, Peer)]
        await self._change(put=left)
        while True:
            number = await self.orders.get()
            await self._change(put=[guest(number)])

    async def _change(self, put: Sequence[Peer]) -> None:
        refused = {one.key for one in await self.ground.change(put)}
        self.wanted |= {one.key: one for one in put if one.key not in refused}
        memory = self.ground.folder / "guests.json"
        await asyncio.to_thread(memory.write_text, json.dumps([one.public_key for one in self.wanted.values()]))
        self.ground.show([{"name": "guests", "count": len(self.wanted)}])
        await self.ground.remark("Guests", Condition("Guests", "True", "Open", f"{len(self.wanted)} guests"))

    def order(self, request: Mapping[str, Any]) -> Reply:
        self.orders.put_nowait(int(request["number"]))
        return {"ok": True, "limit": self.ground.settings[0].target}

    def refused(self, refused: Sequence[Refused]) -> None:
        self.told += refused


def guest(number: int) -> Peer:
    return Peer(dev="wg0", public_key=key(number), allowed_ips=(f"10.51.0.{number}/32",))


def metrics(registry: CollectorRegistry) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    gauge = Gauge("test_guests", "Guests.", registry=registry)
    return lambda rows: gauge.set(sum(row["count"] for row in rows))


def command() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command("list")(lambda: typer.echo("no guests"))
    return app


def remembered(folder: Path, runtime: Runtime) -> Iterable[Resource]:
    return [Route(dst="10.51.0.0/24", dev="wg0")] if (folder / "guests.json").exists() else []


def plug(made: list[Guests]) -> Plug:
    def make(ground: Ground) -> Loop:
        made.append(Guests(ground))
        return made[-1]

    return Plug(
        name="guests",
        settings=lambda runtime: runtime.probes or (),
        make=make,
        conditions=("Guests",),
        pending="Guests",
        shows=True,
        lines=lambda rows: [f"guests {row['count']}" for row in rows],
        metrics=metrics,
        orders=True,
        command=command,
        remembered=remembered,
        scopes=lambda runtime: [Scope("guests", "peer", ("wg0",))],
    )


class Scene:
    """An agent with that loop, and the loop."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Guests] = []
        self.plug = plug(self.made)
        monkeypatch.setattr(loops, "LOOPS", (*loops.LOOPS, self.plug))
        self.running = Running(folder)
        self.host = self.running.world
        self.host.plugs = (self.plug,)
        settings = Runtime(probes=(ProbeTarget(kind="ping", target="10.9.0.1"),))
        self.running.world.source.plan = lambda commit: (HostPlan.of("h1", site(), settings), "")  # type: ignore[method-assign]
        self.restart()

    def restart(self) -> None:
        self.host.start()

    def has(self, number: int) -> bool:
        return guest(number).key in self.host.kernel.stored["peer"]

    def metric(self) -> str:
        assert self.host.host.reporter.metrics is not None
        return generate_latest(self.host.host.reporter.metrics.registry).decode()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_before_it_has_looked_all_is_not_well(scene: Scene) -> None:
    scene.host.host.once()
    found = {c["type"]: c["status"] for c in scene.host.host.reporter.status()["conditions"]}
    assert found["Guests"] == "Unknown" and not ok(scene.host.host.reporter.status())


def test_it_takes_orders_changes_the_kernel_and_is_seen_everywhere(scene: Scene) -> None:
    async def script(r: Running) -> None:
        await r.ask("cycle")
        answer = await r.ask("guests", number=GUESTS)
        assert answer == {"ok": True, "limit": "10.9.0.1"}
        await r.until(lambda: scene.has(GUESTS))
        await r.until(lambda: "test_guests 1.0" in scene.metric())
        await r.until(lambda: scene.host.conditions().get("Guests") == "True:Open")

    scene.running.run(script)
    status = scene.host.host.reporter.status()
    assert status["guests"] == [{"name": "guests", "count": 1}] and status["overlays"] == {"guests": {"peer": 1}}
    assert [row["public_key"] for row in status["tunnels"]] == [key(9)], "a row for each of the plan's, and no other"
    text = render(status, NOW)
    assert "Guests ✓" in text and "guests 1" in text


def test_it_is_told_what_it_does_not_get(scene: Scene) -> None:
    async def script(r: Running) -> None:
        await r.ask("cycle")
        (loop,) = scene.made
        assert [one.text for one in await loop.ground.change([guest(9)])] == [f"peer wg0 {key(9)} is the plan's"]
        await r.ask("guests", number=GUESTS)
        await r.until(lambda: scene.has(GUESTS))
        runtime = Runtime(probes=(ProbeTarget(kind="ping", target="10.9.0.1"),))
        taken = guest(GUESTS).model_copy(update={"public_key": key(7)})
        scene.host.source.plan = lambda commit: (HostPlan.of("h1", [*site(), taken], runtime), "")  # type: ignore[method-assign]
        scene.host.source.commit = "c2"
        await r.ask("cycle")
        await r.until(lambda: [one.name for one in loop.told] == [("peer", guest(GUESTS).key)])
        assert not scene.has(GUESTS)

    scene.running.run(script)


def test_what_it_had_outlives_the_agent_and_is_adopted(scene: Scene) -> None:
    async def first(r: Running) -> None:
        await r.ask("cycle")
        await r.ask("guests", number=GUESTS)
        await r.until(lambda: scene.has(GUESTS))
        await r.until(lambda: (r.world.folder / "guests.json").exists())

    scene.running.run(first)
    deleted: list[Change] = []
    apply = scene.host.kernel.apply

    def watched(kind: str, changes: Sequence[Change]) -> Any:
        deleted.extend(change for change in changes if change.after is None)
        return apply(kind, changes)

    scene.host.kernel.apply = watched  # type: ignore[method-assign]
    again = Running(scene.host.folder)
    again.world.kernel, again.world.plugs, again.world.source = scene.host.kernel, (scene.plug,), scene.host.source
    again.world.start()

    async def second(r: Running) -> None:
        await r.until(lambda: len(scene.made) > 1 and len(scene.made[-1].wanted) == 1)
        await r.ask("cycle")
        assert ("10.51.0.0/24") in {str(k[1]) for k in r.world.kernel.stored["route"]}, "what it remembers"

    again.run(second)
    assert scene.has(GUESTS) and deleted == []


def test_its_command_is_mounted(scene: Scene) -> None:
    result = CliRunner().invoke(gitwan.build(), ["guests", "list"])
    assert (result.exit_code, result.output) == (0, "no guests\n")
