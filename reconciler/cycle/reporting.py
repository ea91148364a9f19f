"""A context manager that completes the report however a cycle ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.base.errors import CycleError, Stalled, Transient
from reconciler.report.report import Mode, Report
from schema.quiet import quiet_gc


@contextmanager
def reporting(mode: Mode) -> Iterator[Report]:
    """Report what happens inside the block. An error is stored in the report, not raised."""
    report = Report(mode)
    started = time.perf_counter()
    with quiet_gc():
        try:
            yield report
        except (CycleError, OSError) as error:
            found = as_cycle_error(error)
            if found.condition == "Confirmed" and isinstance(found, Stalled):
                report.state_error = found
            else:
                report.error = found
    report.seconds = time.perf_counter() - started


def as_cycle_error(error: CycleError | OSError) -> CycleError:
    """The error that stopped a cycle; an OSError becomes Transient, as it may pass by itself."""
    if isinstance(error, CycleError):
        return error
    return Transient("Applied", "SystemError", str(error))
