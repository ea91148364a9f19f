"""Carries out the actions of each exit's policy, and puts the tunnels into the kernel.

Providers and probes wait for the network, each in a thread. The policy is used only in the event loop, and the kernel
only by the holder of the lane.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from reconciler.base.control import Reply
from reconciler.converge.wanted import Refused
from reconciler.loops.base import Ground
from reconciler.loops.exits.election import candidates
from reconciler.loops.exits.health import ProbeResult
from reconciler.loops.exits.memory import Kept, Memory
from reconciler.loops.exits.overlay import Held, overlay
from reconciler.loops.exits.policy import ExitPolicy
from reconciler.loops.exits.prober import ExitProber
from reconciler.loops.exits.providers.base import ProviderError, Registration
from reconciler.loops.exits.rows import broken, choices, row
from reconciler.loops.exits.run import Run, Tools, end_of, placed, remembered
from reconciler.loops.exits.status import conclude
from reconciler.loops.exits.tunnel import Action
from reconciler.report.conditions import Condition
from schema.plan import Exit

TICK = 0.25
"""Maximum seconds between two checks for due actions."""
THREADS = 16
QUIET, QUIET_BYTES = 30.0, 4096
"""With fewer bytes in this many seconds, a tunnel has no flows left; a session's own packets are fewer."""


class ExitsLoop:
    """The exits of this host."""

    def __init__(self, ground: Ground, tools: Tools) -> None:
        self._ground = ground
        self._tools = tools
        self._prober = ExitProber(tools.http, tools.resolve, tools.ask_name)
        self._threads = ThreadPoolExecutor(THREADS, "exits")
        self._runs: dict[str, Run] = {}
        self._broken: dict[str, ProviderError] = {}
        self._followed: tuple[Exit, ...] | None = None
        self._used = False
        self._published: object = None
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.rows: list[dict[str, Any]] = []
        """One row per exit as the kernel has it, for status and metrics."""
        self._condition: Condition | None = None

    async def run(self) -> None:
        """Run the exits until cancelled."""
        try:
            while True:
                self._wake.clear()
                await self._turn(asyncio.get_running_loop().time())
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK if self._runs or self._broken else 1.0):
                        await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()

    async def _turn(self, now: float) -> None:
        exits: tuple[Exit, ...] = self._ground.settings
        if exits != self._followed:
            self._follow(exits, now)
        self._notice(now)
        actions = [(run, action) for run in self._runs.values() for action in run.policy.step(now)]
        for run in self._runs.values():
            self._forward(run, now)
        await self._publish()
        for run, action in actions:
            self._spawn(self._carry_out(run, action))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The plan

    def _follow(self, exits: tuple[Exit, ...], now: float) -> None:
        """Manage these exits from now on; existing tunnels stay up."""
        if exits and not self._used:
            self._used = True
            self._tools.first()
        self._followed = exits
        self._broken.clear()
        runs: dict[str, Run] = {}
        for exit in exits:
            there = self._runs.get(exit.name)
            if there is not None and there.policy.exit == exit:
                runs[exit.name] = there
                continue
            memory = Memory(self._ground.folder, exit.name)
            try:
                run = Run(ExitPolicy(exit), memory, self._tools.provider(exit), memory.key(exit))
            except OSError as error:
                self._broken[exit.name] = ProviderError("KeyUnusable", str(error))
                continue
            except ProviderError as error:
                self._broken[exit.name] = error
                continue
            run.policy.directory.known(run.provider.known())
            self._adopt(run, now, there.policy if there else None)
            runs[exit.name] = run
        for name, gone in self._runs.items():
            if name not in runs:
                self._spawn(self._release(gone))
        self._runs = runs

    async def _release(self, run: Run) -> None:
        """Release the keys of an exit that is gone for good, so that its provider can forget them. Best effort."""
        for session in [tunnel.session for tunnel in run.policy.tunnels.values() if tunnel.session]:
            try:
                await self._in_thread(partial(run.provider.release, session))
            except Exception as error:  # any error: what is stored of the exit is deleted anyway
                found = self._understood(run, "release", error)
                self._ground.say("warning", f"cannot take back the key of the exit {run.memory.name}: {found}")
        await asyncio.to_thread(self._keep, run, [], None)

    def _adopt(self, run: Run, now: float, before: ExitPolicy | None) -> None:
        """Continue with the tunnels in use, if they are still wanted: first those that an earlier policy found well."""
        tunnels, run.policy.pinned = run.memory.tunnels()
        slots = {slot.dev: n for n, slot in enumerate(run.policy.exit.slots)}
        well = {tunnel.gateway.id for tunnel in before.carrying} if before else set()
        carrying = [kept for kept in tunnels if kept.dev in slots and kept.carrying]
        for kept in sorted(carrying, key=lambda kept: (kept.session.gateway.id not in well, slots[kept.dev])):
            ends = now if before else end_of(kept.session, now)
            run.policy.adopt(slots[kept.dev], kept.session, kept.baseline, now, ends)

    # Readings from the kernel

    def _notice(self, now: float) -> None:
        devs = [slot.dev for run in self._runs.values() for slot in run.policy.exit.slots]
        seen = [one for dev in devs for one in dict(self._ground.observed("peer", dev)).values()]
        sessions = {one.resource.dev: one.session for one in seen if one.session is not None}
        ages = {dev: session.handshake_age for dev, session in sessions.items()}
        counts = {dev: session.rx_bytes + session.tx_bytes for dev, session in sessions.items()}
        for run in self._runs.values():
            run.policy.handshakes(ages)
            for slot, tunnel in list(run.policy.tunnels.items()):
                if tunnel.phase != "draining":
                    run.quiet.pop(slot, None)
                    continue
                count = counts.get(run.policy.exit.slots[slot].dev, 0)
                since, before = run.quiet.get(slot, (now, count))
                if count - before > QUIET_BYTES or slot not in run.quiet:
                    run.quiet[slot] = (now, count)
                elif now - since > QUIET:
                    run.policy.drained(slot)

    # Port forwarding

    def _forward(self, run: Run, now: float) -> None:
        """Request or keep a port at the gateway that carries traffic."""
        exit = run.policy.exit
        tunnel = next(iter(run.policy.carrying), None) if exit.port_forward else None
        dev = exit.slots[tunnel.slot].dev if tunnel else None
        if run.forwarding.due(dev, now) and tunnel and tunnel.session and dev:
            run.forwarding.asking = True
            self._spawn(self._ask_port(run, tunnel.session, dev))

    async def _ask_port(self, run: Run, session: Registration, dev: str) -> None:
        clock = asyncio.get_running_loop().time
        try:
            found = await self._in_thread(partial(run.provider.forward, session, dev))
            run.forwarding.given(dev, found, clock(), time.time())
        except Exception as error:  # any error: otherwise the port would never be requested again
            trouble = self._understood(run, "forward", error)
            self._ground.say("warning", f"exit {run.memory.name}: no port is forwarded: {trouble}")
            run.forwarding.refused(dev, trouble, clock())
        finally:
            self._wake.set()

    # Actions of the policy

    async def _publish(self) -> None:
        """Store the current tunnels, then put them into the kernel, then report: a crash in between loses no tunnel."""
        rows = self._describe()
        held = [Held(run.policy.exit, run.key, placed(run.policy), run.forwarding.port) for run in self._runs.values()]
        for run in self._runs.values():
            kept = [remembered(run.policy, tunnel) for tunnel in run.policy.tunnels.values() if tunnel.session]
            if (mark := (kept, run.policy.pinned)) != run.kept:
                run.kept = mark
                await asyncio.to_thread(self._keep, run, *mark)
        state = [(one.exit, one.tunnels, one.port) for one in held]
        if state != self._published and (held or self._published is not None):
            await self._ground.replace(overlay(held))
            self._published = state
        await self._say(rows)

    async def _say(self, rows: list[dict[str, Any]]) -> None:
        """Update the status of exits."""
        self.rows = rows
        self._ground.show(rows)
        found = conclude(rows)
        if found != self._condition or not self._told:
            self._condition, self._told = found, True
            await self._ground.remark("Exits", found)

    _told = False

    def _keep(self, run: Run, kept: list[Kept], pinned: str | None) -> None:
        try:
            run.memory.keep(kept, pinned)
        except OSError as error:
            self._ground.say("warning", f"cannot remember the exit {run.memory.name}: {error.strerror}")

    async def _carry_out(self, run: Run, action: Action) -> None:
        policy, slot = run.policy, action.slot
        clock = asyncio.get_running_loop().time
        try:
            match action.verb:
                case "discover":
                    policy.discovered(await self._in_thread(run.provider.discover), clock())
                case "measure":
                    servers = {gateway.id: gateway.addresses[0] for gateway in action.gateways}
                    measure = partial(self._tools.measure, policy.exit.marked.bypass, servers)
                    policy.measured(await self._in_thread(measure), clock())
                case "register":
                    assert action.gateway is not None
                    session = await self._in_thread(partial(run.provider.register, action.gateway, run.key.fingerprint))
                    policy.registered(slot, session, clock(), end_of(session, clock()))
                case "renew":
                    assert action.session is not None
                    session = await self._in_thread(partial(run.provider.renew, action.session, run.key.fingerprint))
                    policy.renewed(slot, session, clock(), end_of(session, clock()))
                case "probe":
                    assert action.gateway is not None and action.session is not None
                    dev = policy.exit.slots[slot].dev
                    answer = await self._in_thread(partial(self._prober.ask, policy.exit, action.session, dev))
                    run.unprobed = None
                    policy.probed(slot, action.gateway.id, answer, clock())
        except Exception as error:  # any error: a policy without an outcome waits forever
            self._failed(run, action, self._understood(run, action.verb, error), clock())
        finally:
            self._wake.set()

    def _understood(self, run: Run, what: str, error: Exception) -> ProviderError:
        """The error for people. An unexpected error is reduced to its class, because its text may contain a secret."""
        match error:
            case ProviderError():
                return error
            case OSError():
                return ProviderError("Unreachable", str(error))
        text = f"{what} fails in a way that nobody foresaw ({type(error).__name__})"
        self._ground.say("error", f"exit {run.memory.name}: {text}")
        return ProviderError("Unforeseen", text)

    def _failed(self, run: Run, action: Action, found: ProviderError, now: float) -> None:
        policy = run.policy
        match action.verb:
            case "discover":
                policy.not_discovered(found, now)
            case "measure":
                policy.measured({}, now)
            case "register":
                policy.not_registered(action.slot, found, now)
            case "renew":
                policy.not_renewed(action.slot, found, now)
            case "probe":
                assert action.gateway is not None
                run.unprobed = found
                policy.probed(action.slot, action.gateway.id, ProbeResult(None), now)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    # Orders from people

    def order(self, request: Mapping[str, Any]) -> Reply:
        name = request.get("exit")
        error = self.unknown(name) if name else ""
        match request.get("order") if not error else None:
            case "next":
                error = self.next(name)
            case "pin":
                error = self.pin(name, request.get("gateway"))
        return {"ok": not error, "error": error, "exits": self.rows, "gateways": self.gateways(name)}

    def refused(self, refused: Sequence[Refused]) -> None:
        for one in refused:
            self._ground.say("warning", f"exits: {one.text}")

    def _describe(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        found = [row(run.policy, now, run.forwarding, run.unprobed) for run in self._runs.values()]
        found += [broken(exit, e) for exit in self._followed or () if (e := self._broken.get(exit.name))]
        return sorted(found, key=lambda one: str(one["name"]))

    def gateways(self, name: str | None) -> list[dict[str, Any]]:
        """Every gateway that may be used, nearest first."""
        now = time.monotonic()
        found = [one for run in self._chosen(name) for one in choices(run.policy, now)]
        return sorted(found, key=lambda one: (one["exit"], one["latency"] is None, one["latency"], one["gateway"]))

    def next(self, name: str | None) -> str:
        """Choose other gateways. Returns an error text, or ""."""
        return self._order(name, lambda policy: policy.next())

    def pin(self, name: str | None, gateway: str | None) -> str:
        """Choose a gateway by hand, or None. Returns an error text, or ""."""
        runs = self._chosen(name)
        if gateway is not None and len(runs) == 1:
            known = {one.id for one in candidates(runs[0].policy.exit, runs[0].policy.directory.gateways.values())}
            if gateway not in known:
                return f"{gateway} is no gateway that {runs[0].policy.exit.name} may take: see `gitwan exits list`"
        if gateway is not None and len(runs) > 1:
            return "several exits: name one with --exit"
        return self._order(name, lambda policy: policy.pin(gateway))

    def _order(self, name: str | None, order: Callable[[ExitPolicy], None]) -> str:
        runs = self._chosen(name)
        for run in runs:
            order(run.policy)
        self._wake.set()
        return "" if runs else self.unknown(name) or f"{name or 'no exit'} has no key yet: see `gitwan exits status`"

    def unknown(self, name: str | None) -> str:
        """The error text for an unknown exit, or ""; None stands for all exits."""
        there = sorted({*self._runs, *self._broken})
        if not there:
            return "this host has no exits"
        return "" if name is None or name in there else f"there is no exit {name}, but {', '.join(there)}"

    def _chosen(self, name: str | None) -> list[Run]:
        return [run for exit, run in sorted(self._runs.items()) if name in (None, exit)]
