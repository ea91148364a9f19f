"""Times of several works, measured in turns, so that a disturbance of the machine affects all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

Work = Callable[[], object]
Times = dict[str, list[float]]


def timed(work: Work) -> float:
    """Seconds for one call, starting from a clean heap."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(works: Mapping[str, Work], times: int) -> Times:
    """Run each work `times` times, in turns, so that a slow moment affects all of them.

    The garbage collector is off for all of them, as in the process that compiles for the agent and then ends.
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
    """The median time of `ours` divided by that of `theirs`."""
    return median(times[ours]) / median(times[theirs])


def milliseconds(times: Times, name: str) -> str:
    return f"{median(times[name]) * 1000:.0f} ms"
