"""Ports that spread the tunnels of a link evenly over the legs of bonds."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.fabric.spread import Pair, Spread
from schema.leg import Sender

PORTS = range(5000, 65536)
ADDRESSES = st.one_of(
    st.tuples(*[st.integers(1, 2**32 - 2).map(lambda n: str(IPv4Address(n)))] * 2),
    st.tuples(*[st.integers(1, 2**128 - 2).map(lambda n: str(IPv6Address(n)))] * 2),
)
LEGS = st.integers(1, 8)


def chosen(spread: Spread, tunnels: int) -> list[Pair]:
    free_a, free_b = list(PORTS[:2000]), list(PORTS[:2000])
    pairs = []
    for _ in range(tunnels):
        pair = spread.choose(free_a, free_b)
        free_a.remove(pair[0])
        free_b.remove(pair[1])
        spread.add(pair)
        pairs.append(pair)
    return pairs


def even(pairs: list[Pair], sender: Sender | None, lost: int) -> bool:
    """Whether the sender's tunnels differ by one at the most, leg by leg, counted anew."""
    if sender is None or sender.legs == lost:
        return True
    left = Sender(sender.legs - lost, sender.folded)
    used = Counter(left.leg(*pair) for pair in pairs)
    counts = [used[leg] for leg in range(left.legs)]
    return max(counts) - min(counts) <= 1


@settings(deadline=None, max_examples=300)
@given(ADDRESSES, LEGS, st.none() | LEGS, st.integers(1, 16))
def test_tunnels_are_even_in_both_directions_and_with_a_leg_lost(
    addresses: tuple[str, str], legs_a: int, legs_b: int | None, tunnels: int
) -> None:
    a, b = addresses
    first, second = Sender.of(a, b, legs_a), Sender.of(b, a, legs_b) if legs_b else None
    pairs = chosen(Spread(first, second), tunnels)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == tunnels
    for count in range(1, tunnels + 1):  # every beginning too: tunnel n + 1 comes when 1 to n are in use
        for lost in (0, 1):
            assert even(pairs[:count], first, lost)
            assert even([pair[::-1] for pair in pairs[:count]], second, lost)


@pytest.mark.parametrize(("ends", "matters"), [((None, None), False), ((Sender(1, 7), None), False),
                                               ((Sender(2, 7), None), True)])  # fmt: skip
def test_where_no_bond_hashes_no_port_is_better_than_another(
    ends: tuple[Sender | None, Sender | None], matters: bool
) -> None:
    spread = Spread(*ends)
    assert bool(spread) is matters
    assert spread.choose([5000], [6000]) == (5000, 6000)


def test_where_one_port_is_fixed_the_other_is_chosen() -> None:
    spread = Spread(Sender.of("10.0.0.1", "10.0.0.2", 3), None, [(5000, 5000)])
    for _ in range(2):
        spread.add(spread.choose([5000], PORTS))
    assert spread.uneven() == [0, 1]


def test_it_takes_the_best_there_is() -> None:
    spread = Spread(Sender.of("10.0.0.1", "10.0.0.2", 3), None, [(5000, 5000)])
    assert spread.choose([5001], [5001]) == (5001, 5001)
