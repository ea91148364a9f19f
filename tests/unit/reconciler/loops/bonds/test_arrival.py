"""By which leg tunnels arrive, from counters alone."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loops.bonds.arrival import arrivals
from reconciler.loops.bonds.policy import SURE

LOOKS = 20
SEEDS = st.integers(0, 1 << 32)


def world(
    seed: int, legs: int, tunnels: int, *, others: float, burst: float = 1.0
) -> tuple[list[int], list[list[float]], list[list[float]]]:
    """Where tunnels arrive, the legs' series and the tunnels': bursts, headers, and traffic that is not ours."""
    draw = random.Random(seed)
    place = [draw.randrange(legs) for _ in range(tunnels)]
    inner = [[burst * draw.expovariate(1 / 20e6) + (1 - burst) * 20e6 for _ in range(LOOKS)] for _ in place]
    outer = [[others * draw.expovariate(1 / 20e6) for _ in range(LOOKS)] for _ in range(legs)]
    for leg, series in zip(place, inner, strict=True):
        outer[leg] = [have + value * draw.uniform(1.03, 1.05) for have, value in zip(outer[leg], series, strict=True)]
    return place, outer, inner


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.integers(2, 8), st.integers(1, 10), st.sampled_from([0.0, 0.3, 3.0, 10.0]), st.floats(0, 1))
def test_what_is_sure_is_right(seed: int, legs: int, tunnels: int, others: float, burst: float) -> None:
    place, outer, inner = world(seed, legs, tunnels, others=others, burst=burst)
    for true, found in zip(place, arrivals(outer, inner), strict=True):
        assert found.leg == true or found.confidence < SURE


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(2, 4), st.integers(1, 6))
def test_bursts_tell_every_tunnel_apart(seed: int, legs: int, tunnels: int) -> None:
    place, outer, inner = world(seed, legs, tunnels, others=0.0)
    found = arrivals(outer, inner)
    assert [arrival.leg for arrival in found] == place
    assert all(arrival.confidence >= SURE for arrival in found)


def test_steady_tunnels_that_are_alike_are_told_apart_by_nobody() -> None:
    steady = [10.0] * LOOKS
    found = arrivals([[20.0] * LOOKS, [20.0] * LOOKS], [steady] * 4)
    assert all(arrival.confidence == 0 for arrival in found)


def test_steady_tunnels_on_one_leg_are_known_by_the_leg_that_is_idle() -> None:
    found = arrivals([[0.0] * LOOKS, [31.0] * LOOKS], [[10.0] * LOOKS, [20.0] * LOOKS])
    assert [(arrival.leg, arrival.confidence >= SURE) for arrival in found] == [(1, True), (1, True)]


def test_silence_says_nothing() -> None:
    silent = [0.0] * LOOKS
    assert [arrival.confidence for arrival in arrivals([silent, silent], [silent])] == [0]
