"""Running this host's reconciler from the command line: for good, once, or without touching anything."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from reconciler.report.terminal import fail, warn

if TYPE_CHECKING:
    from reconciler.converge.diff import ChangeSet
    from reconciler.process.metrics import Metrics
    from reconciler.process.reconciler import Reconciler
    from reconciler.process.setup import AgentParts
    from reconciler.state.config import AgentConfig

CHANGES = 2
"""The exit code where a dry run would change something."""
LOCK_SECONDS = 3.0
"""How long to wait for the lock of an agent that is just ending."""


def dry_run(settings: AgentConfig, compile_command: Sequence[str], as_json: bool) -> int:
    """Print what a cycle would change; the exit code. It asks the source, and changes nothing."""
    from reconciler.base.errors import CycleError
    from reconciler.cycle import preview

    reconciler = unlocked(settings, compile_command)
    acquired = reconciler.acquire()
    if acquired.error:
        warn(f"{acquired.error.condition}: {acquired.error.message}")
    try:
        found = preview.convergence(reconciler.engine, acquired)
    except CycleError as error:
        fail(error.message)
    typer.echo(json.dumps(_as_json(found), indent=1) if as_json else _as_text(found))
    if acquired.error or found.conflicts:
        return 1
    return CHANGES if found.changes else 0


def _as_json(found: ChangeSet) -> dict[str, Any]:
    return {
        "changes": [
            {"verb": c.verb, "kind": c.resource.kind, "resource": c.resource.describe(), "cost": c.disruption.text}
            for c in found.changes
        ],
        "conflicts": [conflict.text for conflict in found.conflicts],
        "foreign": [f"{resource.kind} {resource.describe()}" for resource in found.satisfied_foreign],
    }


def _as_text(found: ChangeSet) -> str:
    lines = [
        change.describe() + (f"   [{change.disruption.text}]" if change.disruption else "") for change in found.changes
    ]
    lines += [f"! {conflict.text}" for conflict in found.conflicts]
    lines += [f"= {r.kind:<9}  {r.describe()}   (somebody else's, as wanted)" for r in found.satisfied_foreign]
    return "\n".join(lines) or "nothing to change"


def once(reconciler: Reconciler, as_json: bool) -> int:
    """Run one cycle and print what came of it; the exit code."""
    import gc

    gc.disable()  # one cycle, and the process ends
    report = reconciler.once()
    if as_json:
        typer.echo(json.dumps({"report": report.json(), "status": reconciler.reporter.status()}, indent=1))
    else:
        how = "" if report.ok else f"{report.result}: "
        typer.echo(f"{reconciler.name}: {how}{report.summary()} in {report.seconds:.2f} s")
    return 0 if report.ok else 1


def forever(settings: AgentConfig, compile_command: Sequence[str]) -> None:
    """Run the agent until it is told to stop."""
    import asyncio
    import gc

    from reconciler.converge.touched import Touched
    from reconciler.kinds import UNANNOUNCED
    from reconciler.process.agent import Agent
    from reconciler.process.setup import AgentParts, iptables_is_nft
    from reconciler.system.ends import Ends
    from reconciler.system.events import KernelEvents

    try:
        watch = KernelEvents()
    except OSError as error:
        fail(f"cannot listen to the kernel's events: {error.strerror}")
    ends = Ends()
    parts = AgentParts(Touched(watch, ends), ends, _metrics(settings))
    reconciler = locked(settings, compile_command, parts=parts)
    gc.freeze()

    async def run() -> NoReturn:
        announced = watch.announces_firewall and iptables_is_nft()
        await Agent(reconciler, settings, parts.touched, UNANNOUNCED if announced else UNANNOUNCED | {"firewall"}).run()
        # A thread may still wait for a git server or a resolver; nothing that it could bring is wanted any more.
        os._exit(0)

    try:
        asyncio.run(run())
    except OSError as error:
        fail(str(error))


def _metrics(settings: AgentConfig) -> Metrics | None:
    if not settings.metrics_address:
        return None
    from reconciler import loops
    from reconciler.process.metrics import Metrics

    metrics = Metrics(loops.LOOPS)
    address, port = settings.metrics_address
    try:
        metrics.serve(address, port)
    except OSError as error:
        fail(f"cannot listen on {address}:{port} for metrics: {error.strerror}")
    return metrics


def unlocked(settings: AgentConfig, compile_command: Sequence[str], parts: AgentParts | None = None) -> Reconciler:
    """This host's reconciler; ends the program where it cannot be made."""
    from reconciler.process.setup import SetupError, reconciler_of, store_of

    try:
        return reconciler_of(settings, store_of(settings), compile_command, parts)
    except SetupError as error:
        fail(str(error))


def locked(
    settings: AgentConfig, compile_command: Sequence[str], wait: float = LOCK_SECONDS, parts: AgentParts | None = None
) -> Reconciler:
    """The same, once no other process works with its state folder; `wait` is in seconds."""
    from reconciler.base.errors import Busy
    from reconciler.system.agent_group import join

    with suppress(OSError):  # where that is not allowed, nothing of the agent's goes beside an exit
        join()
    reconciler = unlocked(settings, compile_command, parts)
    deadline = time.monotonic() + wait
    while True:
        try:
            reconciler.store.lock()
            return reconciler
        except Busy as error:
            if time.monotonic() >= deadline:
                fail(f"{error}: `gitwan agent cycle` and `gitwan agent status` talk to it")
        except OSError as error:
            fail(f"cannot lock {settings.state}: {error.strerror}")
        time.sleep(0.1)


def adopt(reconciler: Reconciler, yes: bool) -> dict[str, Any]:
    """What adopting takes over, and with `yes` the outcome: `ok`, `changes` or `error`, `summary`."""
    from reconciler.base.errors import CycleError
    from reconciler.cycle import preview

    acquired = reconciler.acquire()
    try:
        changes = [change.describe() for change in preview.adoption(reconciler.engine, acquired)]
    except CycleError as error:
        return {"ok": False, "error": error.message}
    answer: dict[str, Any] = {"ok": True, "changes": changes}
    if yes:
        report = reconciler.converge(acquired, adopt=True)
        answer |= {"ok": report.ok, "summary": report.summary()}
    return answer
