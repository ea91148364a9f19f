from __future__ import annotations

import pytest

from reconciler.base.errors import CycleError, Stalled, Transient, Waiting
from reconciler.converge.diff import Conflict
from reconciler.report.conditions import Condition, Conditions, conclude
from reconciler.report.report import Acquired, Report
from reconciler.state.commits import Rejected
from reconciler.state.store import Confirmed
from schema.plan import Route

AT = Confirmed("d", "aaaaaaaaaa", 1.0)
NEW = "bbbbbbbbbb"
NO_GIT = Transient("Fetched", "Timeout", "no answer")
BAD_YAML = Stalled("Compiled", "Problems", "a.yaml:1:1")
REFUSED = Transient("Applied", "Refused", "no such device")
FULL = Waiting("Applied", "StateUnwritable", "disk full", 60.0)
LOST = Stalled("Confirmed", "StateLost", "lost")
CONFLICT = Conflict(Route(dst="10.0.0.0/8", dev="eth0"), "theirs")
REJECTED = Rejected(NEW, "Refused", "no such device", 1.0)


def report(
    commit: str | None = AT.commit,
    *,
    fetch: CycleError | None = None,
    compiled: CycleError | None = None,
    rejected: Rejected | None = None,
    **fields: object,
) -> Report:
    acquired = Acquired(commit, rejected=rejected, fetch_error=fetch, compile_error=compiled)
    return Report(acquired=acquired, **{"confirmed": AT, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (report(), "Fetched=True:Fetched Compiled=True:Compiled Applied=True:Applied Confirmed=True:Confirmed"),
        (report(None, fetch=NO_GIT), "Fetched=False:Timeout Applied=True:Applied Confirmed=True:Confirmed"),
        (
            report(NEW, compiled=BAD_YAML),
            "Fetched=True:Fetched Compiled=False:Problems Applied=True:Applied Confirmed=False:OlderCommit",
        ),
        (
            report(NEW, error=REFUSED, rolled_back=True),
            "Fetched=True:Fetched Compiled=True:Compiled Applied=False:Refused Confirmed=False:RolledBack",
        ),
        (
            report(NEW, rejected=REJECTED),
            "Fetched=True:Fetched Applied=False:Rejected Confirmed=False:OlderCommit",
        ),
        (
            report(NEW, error=FULL),
            "Fetched=True:Fetched Compiled=True:Compiled Applied=False:StateUnwritable Confirmed=False:OlderCommit",
        ),
        (
            report(NEW, conflicts=[CONFLICT, CONFLICT]),
            "Fetched=True:Fetched Compiled=True:Compiled Applied=False:Conflict Confirmed=False:OlderCommit",
        ),
        (report(state_error=LOST), "Fetched=True:Fetched Compiled=True:Compiled Applied=True:Applied "
                                   "Confirmed=False:StateLost"),
        (
            report(None, fetch=NO_GIT, confirmed=None, says_nothing_of_the_plan=True),
            "Fetched=False:Timeout Confirmed=False:NothingConfirmed",
        ),
        (Report(confirmed=AT, partial=True), "Confirmed=True:Confirmed"),
        (Report(confirmed=AT, newest=NEW, partial=True), "Confirmed=False:OlderCommit"),
        (Report(confirmed=AT, error=REFUSED, partial=True), "Applied=False:Refused Confirmed=True:Confirmed"),
    ],
)  # fmt: skip
def test_what_a_cycle_comes_to(found: Report, expected: str) -> None:
    assert " ".join(f"{c.type}={c.status}:{c.reason}" for c in conclude(found)) == expected


@pytest.mark.parametrize(
    ("found", "result"),
    [
        (report(), "unchanged"),
        (report(None, fetch=NO_GIT), "failed"),
        (report(conflicts=[CONFLICT]), "conflict"),
        (report(error=REFUSED, rolled_back=True), "rolled back"),
        (report(state_error=LOST), "failed"),
    ],
)
def test_results(found: Report, result: str) -> None:
    assert found.result == result


def test_the_message_names_the_first_conflict_and_counts_the_others() -> None:
    applied = conclude(report(conflicts=[CONFLICT, CONFLICT]))[2]
    assert applied.message == "route 10.0.0.0/8 dev eth0 metric 117: theirs (gitwan agent adopt) (and 1 more)"


def test_since_moves_only_with_status_or_reason() -> None:
    conditions = Conditions()
    for now, reason, message in ((1.0, "A", "x"), (2.0, "A", "y"), (3.0, "B", "y")):
        conditions.update([Condition("Applied", "False", reason, message)], now)
    applied = conditions.get("Applied")
    assert applied == Condition("Applied", "False", "B", "y", 3.0)
    conditions.update([Condition("Applied", "False", "B", "z")], 4.0)
    assert conditions.get("Applied") == Condition("Applied", "False", "B", "z", 3.0)


def test_all_conditions_are_there_from_the_start() -> None:
    assert [(c.type, c.status) for c in Conditions().all()] == [
        ("Fetched", "Unknown"), ("Compiled", "Unknown"), ("Applied", "Unknown"), ("Confirmed", "Unknown"),
    ]  # fmt: skip
