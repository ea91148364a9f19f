"""The tables and marks of exits' tunnels, one by one."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.fabric.model import HostExit
from schema.plan.ranges import BYPASS_MARK, FORWARDED_MARK, SLOT_MARKS, SLOT_TABLES, SLOTS_PER_EXIT

BYPASS, FORWARDED = BYPASS_MARK.first, FORWARDED_MARK.first
"""Numbers of marks; see `schema/plan/marks.py`."""


def slot_table(n: int, k: int) -> int:
    """The table of a tunnel of the n-th exit."""
    return SLOT_TABLES.at(SLOTS_PER_EXIT * n + k)


def slot_mark(n: int, k: int) -> int:
    """The number of the mark of a flow that stays with a tunnel of the n-th exit."""
    return SLOT_MARKS.at(SLOTS_PER_EXIT * n + k)


def draining(exit: HostExit) -> range:
    """The tunnels of an exit, where flows stay with the tunnel that they began with."""
    return range(len(exit.devs) if exit.model.on_switch == "drain" else 0)


def marks_needed(ways: Sequence[HostExit]) -> int:
    """How many marks there have to be for these exits of a host."""
    numbers = [BYPASS, *([FORWARDED] if any(exit.model.port_forward for exit in ways) else [])]
    numbers += [slot_mark(n, k) for n, exit in enumerate(ways) for k in draining(exit)]
    return max(numbers) + 1
