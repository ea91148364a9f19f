"""Conditions: what is true of this host now, each with a reason, a sentence and a start time.

Only `conclude` turns the result of a cycle into conditions. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from reconciler.base.errors import CycleError
from reconciler.base.words import and_more
from reconciler.report.report import Report

ConditionStatus = Literal["True", "False", "Unknown"]
TYPES = ("Fetched", "Compiled", "Applied", "Confirmed")
"""The conditions of every host."""
REMARKS = ("Contested", "Suspended")
"""Conditions that exist only while they have something to report. The status can be ok with them."""
CYCLE = ("Fetched", "Verified", "Compiled", "Applied", "Confirmed")
"""In the order of a cycle. `Verified` exists if signers are pinned on this host. Loops add their own conditions."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`since`: epoch seconds of the last change of status or reason; ignored by `==`."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    since: float = field(default=0.0, compare=False)

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Conditions:
    """The current conditions. An unchanged condition keeps its `since`."""

    def __init__(self, of_loops: Iterable[str] = ()) -> None:
        """`of_loops` are the names of the loops' conditions, in their order."""
        self._current: dict[str, Condition] = {t: Condition(t, "Unknown", "Starting") for t in TYPES}
        self._order = {name: place for place, name in enumerate((*CYCLE, *of_loops, *REMARKS))}

    def update(self, new: Iterable[Condition], now: float) -> None:
        for condition in new:
            old = self._current.get(condition.type)
            same = old and old.since and (old.status, old.reason) == (condition.status, condition.reason)
            since = old.since if old and same else now
            self._current[condition.type] = Condition(
                condition.type, condition.status, condition.reason, condition.message, since
            )

    def drop(self, type_: str) -> None:
        self._current.pop(type_, None)

    def all(self) -> list[Condition]:
        """In the order of a cycle, then the loops' conditions, then the remarks."""
        return sorted(self._current.values(), key=lambda condition: self._order.get(condition.type, len(CYCLE)))

    def get(self, type_: str) -> Condition | None:
        return self._current.get(type_)


def conclude(report: Report) -> list[Condition]:
    """The conditions that a cycle's report changes, in the order of the cycle."""
    found = [*_acquired(report), _applied(report), _confirmed(report)]
    return [condition for condition in found if condition is not None]


def _acquired(report: Report) -> Iterable[Condition | None]:
    got = report.acquired
    if got is None:
        return
    if got.fetch_error:
        yield _false("Fetched", got.fetch_error)
        return
    yield Condition("Fetched", "True", "Fetched", f"commit {short(got.commit)}")
    if got.verify_error:
        yield _false("Verified", got.verify_error)
        return
    if got.verified:
        yield Condition("Verified", "True", "Signed", "by signers pinned on this host")
    if got.compile_error:
        yield _false("Compiled", got.compile_error)
    elif got.rejected is None:
        yield Condition("Compiled", "True", "Compiled", got.note)


def _applied(report: Report) -> Condition | None:
    if report.error is not None:
        return _false("Applied", report.error, rolled_back=report.rolled_back)
    if report.unmet:
        return Condition("Applied", "False", "Unmet", next(iter(report.unmet.values())) + and_more(report.unmet))
    if report.conflicts:
        return Condition("Applied", "False", "Conflict", report.conflicts[0].text + and_more(report.conflicts))
    rejected = report.acquired.rejected if report.acquired else None
    if rejected is not None:
        message = f"{short(rejected.commit)} was rejected: {rejected.message}; `gitwan agent retry` tries it again"
        return Condition("Applied", "False", "Rejected", message)
    if report.says_nothing_of_the_plan:
        return None
    if report.partial:
        return None  # a repair of some kinds says nothing about the others
    return Condition("Applied", "True", "Applied", report.summary())


def _confirmed(report: Report) -> Condition | None:
    if report.state_error is not None:
        return _false("Confirmed", report.state_error)
    if report.confirmed is None:
        return Condition("Confirmed", "False", "NothingConfirmed", "no plan was ever confirmed on this host")
    at = f"commit {short(report.confirmed.commit)}"
    got = report.acquired
    newest = (got.commit if got else None) or report.newest
    if report.trial and newest is not None:
        text = f"{short(newest)} is applied, and waits for {report.trial}; confirmed is {at}"
        return Condition("Confirmed", "False", "OnTrial", text)
    if newest is not None and newest != report.confirmed.commit:
        reason = "RolledBack" if report.rolled_back else "OlderCommit"
        return Condition("Confirmed", "False", reason, f"still at {at}, not at {short(newest)}")
    return Condition("Confirmed", "True", "Confirmed", at)


def _false(type_: str, error: CycleError, *, rolled_back: bool = False) -> Condition:
    message = error.message + ("; rolled back" if rolled_back else "")
    return Condition(type_, "False", error.reason, message)


def short(commit: str | None) -> str:
    """A commit, abbreviated for people."""
    return (commit or "none")[:7]
