from __future__ import annotations

from reconciler.base.errors import Transient, Waiting
from reconciler.cycle.unfinished import unfinished
from reconciler.kinds.base import Failure
from schema.plan import Change, Route

CHANGE = Change(None, Route(dst="10.0.0.0/8", dev="eth0"))


def test_a_refusal_is_named_before_what_is_merely_different() -> None:
    error = unfinished([CHANGE], [Failure(CHANGE, "ENODEV", "No such device")])
    assert (error.reason, error.message) == (
        "Refused",
        "+ route      10.0.0.0/8 dev eth0 metric 117: No such device",
    )
    error = unfinished([CHANGE, CHANGE], [])
    assert error.reason == "Unstable"
    assert error.message.endswith("metric 117 (and 1 more)")


def test_a_name_that_does_not_resolve_is_waited_for() -> None:
    assert isinstance(unfinished([CHANGE], [Failure(CHANGE, "Unresolved", "cannot resolve a", 30.0)]), Waiting)
    both = [Failure(CHANGE, "Unresolved", "cannot resolve a", 30.0), Failure(CHANGE, "EPERM", "no")]
    assert isinstance(unfinished([CHANGE], both), Transient)
