"""Computes what an engine would do, without doing it. Raises CycleError if that cannot be determined."""

from __future__ import annotations

from reconciler.converge.diff import ChangeSet
from reconciler.converge.layers import NOTHING
from reconciler.cycle.engine import Engine
from reconciler.report.report import Acquired, Report
from schema.plan import Change
from schema.quiet import quiet_gc


def convergence(engine: Engine, acquired: Acquired | None = None, *, adopt: bool = False) -> ChangeSet:
    """The changes that `Engine.converge` would make."""
    with quiet_gc():
        report = Report(confirmed=engine.store.confirmed_or_none())
        known = engine.known(report) or engine.wanted.nothing()
        candidate = acquired.candidate if acquired else None
        target = engine.plans.of(candidate) if candidate else known
        return engine.converger.diff(target, engine.converger.look(engine.all_kinds), known, adopt=adopt)


def adoption(engine: Engine, acquired: Acquired | None = None) -> list[Change]:
    """The changes that adopting would make in addition to the ordinary ones."""
    anyway = set(convergence(engine, acquired).changes)
    return [change for change in convergence(engine, acquired, adopt=True).changes if change not in anyway]


def removal(engine: Engine) -> ChangeSet:
    """The changes that `Engine.remove` would make."""
    return engine.converger.diff(NOTHING, engine.converger.look(engine.all_kinds), NOTHING)
