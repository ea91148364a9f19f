"""What an engine would do, without doing it. Raises CycleError where even that is not known."""

from __future__ import annotations

from reconciler.converge.diff import ChangeSet
from reconciler.converge.layers import NOTHING
from reconciler.cycle.engine import Engine
from reconciler.report.report import Acquired, Report
from schema.plan import Change
from schema.quiet import quiet_gc


def convergence(engine: Engine, acquired: Acquired | None = None, *, adopt: bool = False) -> ChangeSet:
    """What `Engine.converge` would do."""
    with quiet_gc():
        report = Report(confirmed=engine.plans.confirmed())
        known = engine.known(report) or engine.wanted.nothing()
        candidate = acquired.candidate if acquired else None
        target = engine.plans.of(candidate) if candidate else known
        return engine.converger.diff(target, engine.converger.look(engine.all_kinds), known, adopt=adopt)


def adoption(engine: Engine, acquired: Acquired | None = None) -> list[Change]:
    """What adopting would take over, beside what is done anyway."""
    anyway = set(convergence(engine, acquired).changes)
    return [change for change in convergence(engine, acquired, adopt=True).changes if change not in anyway]


def removal(engine: Engine) -> ChangeSet:
    """What `Engine.remove` would do."""
    return engine.converger.diff(NOTHING, engine.converger.look(engine.all_kinds), NOTHING)
