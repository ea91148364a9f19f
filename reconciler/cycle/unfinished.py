"""Turns failed changes into an error that says what to do next. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.base.errors import CycleError, Transient, Waiting
from reconciler.base.words import and_more
from reconciler.kinds.base import Failure
from schema.plan import Change


def unfinished(missing: Sequence[Change], failures: Sequence[Failure]) -> CycleError:
    """The error for the differences that remain after the last pass."""
    if not failures:
        more = and_more(missing)
        text = f"still different after it was applied: {missing[0].describe()}{more}"
        return Transient("Applied", "Unstable", text)
    first = failures[0]
    more = and_more(failures)
    text = f"{first.change.describe()}: {first.message}{more}"
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    if len(waits) == len(failures):
        # A failure that passes by itself, such as a name that does not resolve right now, is not the commit's fault.
        return Waiting("Applied", first.code, text, max(waits))
    return Transient("Applied", "Refused", text)
