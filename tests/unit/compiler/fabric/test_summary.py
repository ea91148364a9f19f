from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compiler.fabric.summary import condense, subtract, summarise
from schema.ip import Prefix

# Small numbers, so that prefixes meet, nest and touch.
prefixes = st.builds(
    lambda value, length: Prefix(4, (10 << 24) + (value >> (32 - length) << (32 - length)), length),
    st.integers(0, 255).map(lambda v: v << 2),
    st.integers(22, 32),
)
lists = st.lists(prefixes, max_size=30)


def addresses(found: list[Prefix]) -> set[int]:
    return {address for prefix in found for address in range(prefix.first, prefix.last + 1)}


@given(lists)
def test_a_summary_covers_the_same_addresses(found: list[Prefix]) -> None:
    assert addresses(summarise(found)) == addresses(found)


@given(lists)
def test_a_summary_is_as_short_as_can_be(found: list[Prefix]) -> None:
    result = summarise(found)
    assert result == sorted(set(result))
    assert summarise(result) == result
    for a in result:
        for b in result:
            assert a == b or not a.covers(b)


@given(lists, lists)
def test_subtracting_takes_away_exactly_the_holes(found: list[Prefix], holes: list[Prefix]) -> None:
    assert addresses(subtract(found, holes)) == addresses(found) - addresses(holes)


@given(st.lists(prefixes, min_size=1, max_size=30))
def test_condensing_covers_at_least_the_same_and_stays_in_private_space(found: list[Prefix]) -> None:
    result = condense(summarise(found), limit=4)
    assert addresses(found) <= addresses(result)
    assert len(result) <= 4
    assert all(Prefix.parse("10.0.0.0/8").covers(prefix) for prefix in result)


def test_few_prefixes_stay_exact() -> None:
    found = summarise([Prefix.parse("10.0.1.0/24"), Prefix.parse("10.0.9.0/24")])
    assert condense(found) == found


def test_public_prefixes_are_never_widened() -> None:
    public = [Prefix.parse(f"203.0.{n}.0/24") for n in range(1, 200, 2)]
    private = [Prefix.parse(f"10.0.{n}.0/24") for n in range(1, 200, 2)]
    result = condense(summarise(public + private))
    assert set(public) <= set(result)
    assert len(result) <= len(public) + 64
