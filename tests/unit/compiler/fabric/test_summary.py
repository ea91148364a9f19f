from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compiler.fabric.summary import condense, subtract, summarise
from schema.ip import BITS, Prefix

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


BLOCKS = [Prefix.parse(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")]
"""RFC 1918; and of RFC 4193 the half that anybody may take a prefix from."""
NEIGHBOURS = [
    Prefix.parse(text)
    for text in ("11.0.0.0/8", "172.0.0.0/12", "172.32.0.0/12", "192.169.0.0/16", "192.160.0.0/13", "fc00::/8")
]


def within(space: Prefix, numbers: list[int]) -> list[Prefix]:
    """Networks that are spread over all of a block."""
    length = 24 if space.version == 4 else 64
    free = length - space.length
    values = (space.first + ((number << max(free - 10, 0)) << (BITS[space.version] - length)) for number in numbers)
    return [Prefix(space.version, value, length) for value in values]


anywhere = st.lists(st.integers(0, 255), max_size=20, unique=True)


@given(st.tuples(*[anywhere] * len(BLOCKS)), st.tuples(*[anywhere] * len(NEIGHBOURS)), st.integers(3, 12))
def test_whatever_is_widened_stays_in_its_own_block_and_nothing_else_is(
    private: tuple[list[int], ...], public: tuple[list[int], ...], limit: int
) -> None:
    inside = summarise(p for space, numbers in zip(BLOCKS, private, strict=True) for p in within(space, numbers))
    outside = summarise(p for space, numbers in zip(NEIGHBOURS, public, strict=True) for p in within(space, numbers))
    result = condense(summarise([*inside, *outside]), limit)
    ours = [prefix for prefix in result if any(block.covers(prefix) for block in BLOCKS)]
    assert set(result) - set(ours) == set(outside)
    assert all(any(wide.covers(prefix) for wide in ours) for prefix in inside)
    for version in (4, 6):
        few = sum(prefix.version == version for prefix in [*inside, *outside]) <= limit
        had, kept = ([p for p in some if p.version == version] for some in (inside, ours))
        assert kept == had if few else len(kept) <= limit


def test_as_little_is_widened_as_the_limit_allows() -> None:
    """Four pairs, each with a hole: four prefixes may be written, so each covers its own pair and no more."""
    pairs = [Prefix.parse(f"10.0.{n + m}.0/24") for n in (0, 16, 32, 48) for m in (0, 2)]
    assert condense(pairs, limit=4) == [Prefix.parse(f"10.0.{n}.0/22") for n in (0, 16, 32, 48)]
    assert condense(pairs, limit=8) == pairs
    assert condense(pairs, limit=7) == condense(pairs, limit=4)


def test_a_host_may_have_64_routes_to_one_neighbour_before_any_is_widened() -> None:
    many = [Prefix.parse(f"10.{n}.0.0/24") for n in range(65)]
    assert condense(many[:64]) == many[:64]
    assert len(condense(many)) < 64


@given(lists, lists)
def test_a_hole_leaves_the_fewest_prefixes(found: list[Prefix], holes: list[Prefix]) -> None:
    left = subtract(summarise(found), holes)
    assert len(set(left)) == len(left)
    assert not any(a is not b and (a.covers(b) or b.covers(a)) for a in left for b in left)


@given(st.lists(prefixes, max_size=30), st.data())
def test_no_shorter_list_covers_the_same(found: list[Prefix], data: st.DataObject) -> None:
    """Two that are halves of one are always written as that one, in any order that they are given in."""
    shuffled = data.draw(st.permutations(found))
    result = summarise(shuffled)
    assert result == summarise(found)
    parents = {(p.version, p.value >> (BITS[p.version] - p.length + 1), p.length) for p in result if p.length}
    assert len(parents) == len([p for p in result if p.length])
