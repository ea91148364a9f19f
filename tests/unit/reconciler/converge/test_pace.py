from __future__ import annotations

from reconciler.converge.pace import LEAST, SHARE, Pace


def test_a_device_that_is_new_is_due_at_once_and_a_small_one_soon_again() -> None:
    pace = Pace()
    assert pace.due({"wg0"}, 0.0) == {"wg0"}
    pace.took({"wg0": 3}, 0.001, 1.0)
    assert pace.due({"wg0", "wg1"}, 1.0) == {"wg1"}
    assert pace.due({"wg0"}, 1.0 + LEAST) == {"wg0"}


def test_a_large_device_takes_its_share_of_a_core_and_holds_up_no_other() -> None:
    pace = Pace()
    pace.took({"wg0": 9_999, "wg1": 1}, 0.5, 0.0)
    assert pace.due({"wg0", "wg1"}, LEAST) == {"wg1"}
    assert pace.due({"wg0"}, 0.9999 * 0.5 / SHARE - 0.1) == set()
    assert pace.due({"wg0"}, 0.5 / SHARE) == {"wg0"}


def test_a_device_that_was_away_is_due_when_it_is_there_again() -> None:
    pace = Pace()
    pace.took({"wg0": 9}, 10.0, 0.0)
    assert pace.due((), 1.0) == set()
    assert pace.due({"wg0"}, 2.0) == {"wg0"}
