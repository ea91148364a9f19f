"""Exits of a home edge: always the best gateway of a provider, and never a leak."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.loops.base import Ground, Loop, Plug
from schema.plan import Resource, Runtime

if TYPE_CHECKING:
    import typer
    from prometheus_client import CollectorRegistry


def _make(ground: Ground) -> Loop:
    from reconciler.loops.exits.loop import ExitsLoop
    from reconciler.loops.exits.tools import tools

    return ExitsLoop(ground, tools(ground))


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    from reconciler.loops.exits.status import lines

    return lines(rows)


def _metrics(registry: CollectorRegistry) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    from reconciler.loops.exits.metrics import ExitMetrics

    return ExitMetrics(registry).show


def _command() -> typer.Typer:
    from reconciler.loops.exits.cli import make_app

    return make_app()


def _remembered(folder: Path, runtime: Runtime) -> Iterable[Resource]:
    if not runtime.exits:
        return ()
    from reconciler.loops.exits.memory import remembered

    return remembered(folder, runtime.exits)


PLUG = Plug(
    name="exits",
    settings=lambda runtime: runtime.exits or (),
    make=_make,
    conditions=("Exits",),
    pending="Exits",
    shows=True,
    lines=_lines,
    metrics=_metrics,
    orders=True,
    command=_command,
    remembered=_remembered,
)
