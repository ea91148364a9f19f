"""What to say, and do next, when a change did not come out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.base.errors import CycleError, Transient, Waiting
from reconciler.base.words import and_more
from reconciler.kinds.base import Failure
from schema.plan import Change


def unfinished(missing: Sequence[Change], failures: Sequence[Failure]) -> CycleError:
    """What to say, and do next, about what is still different after the last pass."""
    if not failures:
        more = and_more(missing)
        text = f"still different after it was applied: {missing[0].describe()}{more}"
        return Transient("Applied", "Unstable", text)
    first = failures[0]
    more = and_more(failures)
    text = f"{first.change.describe()}: {first.message}{more}"
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    if len(waits) == len(failures):
        # What passes by itself, such as a name that does not resolve right now, is no fault of the commit.
        return Waiting("Applied", first.code, text, max(waits))
    return Transient("Applied", "Refused", text)
