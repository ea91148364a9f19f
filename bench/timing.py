"""Times, taken in turns: what disturbs the machine for a while disturbs all that is compared."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

Work = Callable[[], object]
Times = dict[str, list[float]]


def timed(work: Work) -> float:
    """Seconds that one call takes, from a clean heap."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(works: Mapping[str, Work], times: int) -> Times:
    """Each work `times` times, one after the other, so that a slow moment meets all of them.

    The collector rests, on all sides alike, as it does in the process that compiles for the agent and then ends.
    """
    gc.disable()
    try:
        return _in_turns(works, times)
    finally:
        gc.enable()


def _in_turns(works: Mapping[str, Work], times: int) -> Times:
    found: Times = {name: [] for name in works}
    for _ in range(times):
        for name, work in works.items():
            found[name].append(timed(work))
    return found


def ratio(times: Times, ours: str, theirs: str) -> float:
    """How many times as long as theirs ours takes, by the medians."""
    return median(times[ours]) / median(times[theirs])


def milliseconds(times: Times, name: str) -> str:
    return f"{median(times[name]) * 1000:.0f} ms"
