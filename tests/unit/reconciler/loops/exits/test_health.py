"""Strikes, as the article counts them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.loops.exits.health import ProbeResult, Pulse, weighted_mean
from tests.unit.reconciler.loops.exits.samples import health

SILENCE = ProbeResult(None)
PORTAL = ProbeResult(0.02, genuine=False)


def pulse(*rtts: float, **changes: object) -> Pulse:
    found = Pulse(health(**changes))
    for rtt in rtts:
        found.note(ProbeResult(rtt))
    return found


def test_the_articles_numbers() -> None:
    """`New baseline is 202 ms; Threshold is 2020`."""
    found = pulse(0.202, 0.202, 0.202)
    assert found.baseline == 0.202
    assert found.limit == pytest.approx(2.02)


def test_the_baseline_is_the_median_of_the_first_three() -> None:
    assert pulse(0.9, 0.2).baseline is None
    assert pulse(0.9, 0.2, 0.21, 5.0).baseline == 0.21


def test_the_newest_sample_weighs_most() -> None:
    weights = [1.0, math.exp(-1), math.exp(-2)]
    assert weighted_mean([0.3, 0.2, 0.1]) == pytest.approx(
        (0.1 * weights[0] + 0.2 * weights[1] + 0.3 * weights[2]) / sum(weights)
    )
    assert weighted_mean([]) is None


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=10))
def test_a_mean_lies_within_its_samples(samples: list[float]) -> None:
    found = weighted_mean(samples)
    assert found is not None
    assert min(samples) - 1e-9 <= found <= max(samples) + 1e-9


def test_twelve_times_the_baseline_strikes_from_the_second_sample_on() -> None:
    """One sample of 12 x among ones gives about 8 x; two of them more than 10 x."""
    found = pulse(*[0.1] * 10)
    strikes = []
    for _ in range(5):
        found.note(ProbeResult(1.2))
        strikes.append(found.strikes)
    assert strikes == [0, 1, 2, 3, 4]
    assert found.degraded and not found.dead and found.fault == "Slow"


def test_three_times_the_baseline_is_no_strike() -> None:
    found = pulse(*[0.1] * 10, *[0.3] * 50)
    assert found.strikes == 0


def test_silence_strikes_each_time_and_three_in_a_row_are_the_end() -> None:
    found = pulse(*[0.1] * 3)
    for count in (1, 2, 3):
        assert not found.degraded
        found.note(SILENCE)
        assert found.strikes == count
    assert found.degraded and found.dead


def test_an_answer_in_time_ends_the_row() -> None:
    found = pulse(*[0.1] * 10)
    for answer in (SILENCE, SILENCE, ProbeResult(0.1), SILENCE, SILENCE):
        found.note(answer)
    assert found.strikes == 2 and not found.degraded


def test_a_captive_portal_is_not_health() -> None:
    found = pulse(*[0.1] * 10)
    for _ in range(3):
        found.note(PORTAL)
    assert found.degraded and found.fault == "CaptivePortal"


def test_a_fixed_threshold() -> None:
    """Article 003: more than 200 ms, or lost."""
    found = pulse(0.1, 0.2, 0.201, 0.3, factor=None, threshold=0.2)
    assert found.strikes == 2
    found.note(SILENCE)
    assert found.degraded


def test_loss_beyond_what_is_allowed_is_a_strike_although_answers_are_quick() -> None:
    found = pulse(*[0.1] * 4, loss=0.2)
    strikes = []
    for _ in range(3):
        found.note(SILENCE)
        found.note(ProbeResult(0.1))
        strikes.append(found.strikes)
    assert strikes == [0, 2, 4]
    assert found.fault == "Lossy"


def test_a_session_that_is_over_needs_one_miss_only() -> None:
    found = pulse(*[0.1] * 3)
    found.handshake = 200.0
    assert not found.dead
    found.note(SILENCE)
    assert found.dead and not found.degraded


def test_the_window_forgets() -> None:
    found = pulse(*[5.0] * 20, *[0.1] * 10, window=10)
    assert list(found.window) == [0.1] * 10


def test_a_captive_portal_is_a_probe_that_failed_however_quickly_it_answers() -> None:
    found = pulse(0.02, 0.02, strikes=3)
    for _ in range(3):
        found.note(PORTAL)
    assert found.misses == 3 and found.dead
    found.note(ProbeResult(0.02))
    assert found.misses == 0 and not found.dead


def test_loss_counts_once_half_of_the_window_is_there() -> None:
    found = Pulse(health(window=10, loss=0.2))
    for n, answer in enumerate((SILENCE, ProbeResult(0.02), ProbeResult(0.02), ProbeResult(0.02)), 1):
        found.note(answer)
        assert found.fault == ("Silent" if n == 1 else ""), "one of four is more than a fifth, and says little"
    found.note(SILENCE)
    found.note(ProbeResult(0.02))
    assert found.fault == "Lossy"
