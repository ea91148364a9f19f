from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lab.impairment import Impairment
from lab.relay import LONGEST_QUEUE, Schedule


def test_a_packet_arrives_after_the_delay_and_not_before() -> None:
    schedule = Schedule(Random(1))
    schedule.take(100.0, Impairment(delay=0.02), 3, b"a")
    assert schedule.due(100.019) == []
    assert schedule.wait(100.019) is not None
    assert schedule.due(100.02) == [(3, b"a")]
    assert schedule.wait(100.02) is None


@given(st.lists(st.floats(0, 0.01), min_size=1, max_size=50), st.floats(0, 0.1), st.integers(0, 1000))
def test_jitter_never_changes_the_order_or_shortens_the_way(gaps: list[float], jitter: float, seed: int) -> None:
    schedule, now, line = Schedule(Random(seed)), 0.0, Impairment(delay=0.05, jitter=jitter)
    sent: dict[bytes, float] = {}
    for number, gap in enumerate(gaps):
        now += gap
        sent[b"%d" % number] = now
        schedule.take(now, line, 1, b"%d" % number)
    assert schedule.due(min(sent.values()) + 0.0499) == []
    assert [packet for _, packet in schedule.due(now + 10)] == list(sent)


def test_two_directions_do_not_wait_for_each_other() -> None:
    schedule = Schedule(Random(1))
    schedule.take(0.0, Impairment(delay=1.0), 1, b"slow")
    schedule.take(0.0, Impairment(delay=0.1), 2, b"fast")
    assert schedule.due(0.5) == [(2, b"fast")]


def test_loss_takes_its_share_and_silence_all() -> None:
    schedule = Schedule(Random(1))
    for _ in range(1000):
        schedule.take(0.0, Impairment(loss=0.25), 1, b"")
        schedule.take(0.0, Impairment(silent=True), 2, b"")
    out = [descriptor for descriptor, _ in schedule.due(1.0)]
    assert 700 < len(out) < 800 and set(out) == {1}


def test_a_queue_is_bounded() -> None:
    schedule = Schedule(Random(1))
    for _ in range(LONGEST_QUEUE + 5):
        schedule.take(0.0, Impairment(delay=1.0), 1, b"")
    assert len(schedule.due(2.0)) == LONGEST_QUEUE
