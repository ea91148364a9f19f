from __future__ import annotations

from reconciler.report.contest import Contest

ROUTE = (("route", ("10.0.0.0/8",)), "10.0.0.0/8")
PEER = (("peer", ("wg0", "k")), "wg0 k")


def test_a_few_repairs_are_no_contest() -> None:
    contest = Contest()
    for now in range(5):
        contest.note([ROUTE], float(now))
    assert contest.contested(5.0) == []
    assert contest.delay(5.0) == {}


def test_many_repairs_of_one_resource_are_named() -> None:
    contest = Contest()
    for now in range(6):
        contest.note([ROUTE], float(now))
    contest.note([PEER], 6.0)
    assert contest.contested(6.0) == [(ROUTE[0], "10.0.0.0/8", 6)]


def test_the_pause_doubles_up_to_half_a_minute() -> None:
    contest = Contest()
    delays = []
    for now in range(14):
        contest.note([ROUTE], float(now))
        delays.append(contest.delay(float(now)).get("route"))
    assert delays == [None] * 5 + [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_it_ends_a_minute_after_the_last_ones() -> None:
    contest = Contest()
    for now in range(9):
        contest.note([ROUTE], float(now))
    assert contest.contested(63.5) == []
    assert contest.contested(200.0) == []


def test_many_resources_once_each_are_no_contest() -> None:
    contest = Contest()
    contest.note(((("route", (i,)), str(i)) for i in range(1000)), 0.0)
    assert contest.contested(0.0) == []
