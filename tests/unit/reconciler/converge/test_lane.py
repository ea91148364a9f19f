from __future__ import annotations

import threading
from collections.abc import Callable

from reconciler.converge.lane import Lane


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_one_at_a_time_in_the_order_in_which_they_came() -> None:
    lane, order = Lane(), []
    turns = [threading.Event() for _ in range(3)]

    def work(number: int) -> None:
        with lane.hold():
            order.append(number)

    with lane.hold():
        threads = []
        for number in range(3):
            threads.append(started(lambda number=number: work(number)))  # type: ignore[misc]
            while len(lane._waiting) <= number:
                turns[number].wait(0.001)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2]


def test_who_waits_for_something_else_lets_others_pass_and_has_the_lane_again_after_it() -> None:
    lane, passed = Lane(), threading.Event()

    def other() -> None:
        with lane.hold():
            passed.set()

    with lane.hold(), lane.hold():
        thread = started(other)
        assert not passed.wait(0.01)
        with lane.aside():
            assert passed.wait(10)
        thread.join(10)
        passed.clear()
        thread = started(other)
        assert not passed.wait(0.01), "it is held again, as deep as before"
    thread.join(10)
    assert passed.is_set()


def test_what_is_done_firmly_is_not_overtaken() -> None:
    lane, passed = Lane(), threading.Event()

    def other() -> None:
        with lane.hold():
            passed.set()

    with lane.hold():
        with lane.firmly():
            thread = started(other)
            with lane.aside():
                assert not passed.wait(0.01)
        with lane.aside():
            assert passed.wait(10)
    thread.join(10)


def test_who_does_not_hold_it_gives_nothing_up() -> None:
    lane = Lane()
    with lane.aside():
        pass
    with lane.hold():
        thread = started(lambda: lane.aside().__enter__())
        thread.join(10)
        assert not thread.is_alive()
