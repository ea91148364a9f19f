"""The routing tables and marks of the tunnels of exits."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.fabric.model import HostExit
from schema.plan.ranges import BYPASS_MARK, FORWARDED_MARK, SLOT_MARKS, SLOT_TABLES, SLOTS_PER_EXIT

BYPASS, FORWARDED = BYPASS_MARK.first, FORWARDED_MARK.first
"""Numbers of marks; see `schema/plan/marks.py`."""


def slot_table(n: int, k: int) -> int:
    """The table of the k-th tunnel of the n-th exit."""
    return SLOT_TABLES.at(SLOTS_PER_EXIT * n + k)


def slot_mark(n: int, k: int) -> int:
    """The mark number of flows that stay with the k-th tunnel of the n-th exit."""
    return SLOT_MARKS.at(SLOTS_PER_EXIT * n + k)


def draining(exit: HostExit) -> range:
    """The tunnels of an exit that keep their flows after a switch; empty if flows move."""
    return range(len(exit.devs) if exit.model.on_switch == "drain" else 0)


def marks_needed(ways: Sequence[HostExit]) -> int:
    """The number of marks that these exits of a host need."""
    numbers = [BYPASS, *([FORWARDED] if any(exit.model.port_forward for exit in ways) else [])]
    numbers += [slot_mark(n, k) for n, exit in enumerate(ways) for k in draining(exit)]
    return max(numbers) + 1
