"""20,000 routes through the engine of a running agent, compared to `ip` in the same namespace."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from bench.private import enter, in_private, run
from bench.rows import OUT, Board, Row
from bench.timing import Times, timed
from reconciler.cycle.engine import Engine
from reconciler.kinds import KINDS
from reconciler.report.report import Acquired, Candidate
from reconciler.state.inventory import Inventory
from reconciler.state.store import Store
from reconciler.system import Context, drivers
from schema.plan import HostPlan, Route

ROUTES = 20_000
TURNS = 5
DEV = "eth0"


def measure(board: Board) -> None:
    with board.working("20,000 routes"):
        found: Times = in_private("bench.routes")
    ours, floor, same, shown = (median(found[name]) for name in ("apply", "batch", "same", "show"))
    board.add(
        Row("20,000 routes from empty, observe to confirm", ours / floor, "x `ip -batch`", 3.0,
            note=f"{ours * 1000:.0f} ms; {floor * 1000:.0f} ms to add the same")
    )  # fmt: skip
    board.add(
        Row("a cycle that changes nothing, 20,000 routes", same / shown, "x `ip -j route show`", 5.0,
            note=f"{same * 1000:.0f} ms; {shown * 1000:.0f} ms to show them")
    )  # fmt: skip


def _inside() -> Times:
    enter(DEV)
    prefixes = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(ROUTES)]
    empty = Candidate.of("empty", HostPlan.of("bench", []))
    full = Candidate.of("full", HostPlan.of("bench", [Route(dst=prefix, dev=DEV) for prefix in prefixes]))
    times: Times = {"apply": [], "batch": [], "same": [], "show": []}
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        batch = Path(folder) / "batch"
        batch.write_text("".join(f"route add {prefix} dev {DEV} metric 117 proto 117\n" for prefix in prefixes))
        for turn in range(TURNS):
            times["batch"].append(timed(lambda: run("ip", "-batch", str(batch))))
            run("ip", "route", "flush", "proto", "117")
            with _agent(Path(folder) / f"state{turn}") as engine:
                _cycle(engine, 0, Acquired("empty", empty))
                times["apply"].append(timed(partial(_cycle, engine, ROUTES, Acquired("full", full))))
                for _ in range(3):
                    times["same"].append(timed(partial(_cycle, engine, 0)))
                    times["show"].append(timed(_show))
            run("ip", "route", "flush", "proto", "117")
    return times


@contextmanager
def _agent(state: Path) -> Iterator[Engine]:
    """An engine as in a running agent, on this kernel and with its own state folder."""

    def no_secret(reference: object) -> bytes:
        raise LookupError("there are no secrets here")

    store = Store(state)
    store.open()
    yield Engine(
        store=store,
        drivers=drivers(Context(no_secret, Inventory(state / "inventory.json"), state / "services")),
        kinds=KINDS,
    )


def _cycle(engine: Engine, operations: int, acquired: Acquired | None = None) -> None:
    """Run one cycle of the agent. Raises an error unless it executes exactly this number of operations."""
    report = engine.converge(acquired)
    if not report.ok or report.operations != operations:
        raise RuntimeError(f"{report.result}: {report.summary()}, {report.error}")


def _show() -> None:
    """Read the output of `ip`, like any user of it."""
    done = subprocess.run(["ip", "-j", "route", "show"], capture_output=True, check=True)
    assert done.stdout.count(b"dst") >= ROUTES


if __name__ == "__main__":
    print(json.dumps(_inside()))
