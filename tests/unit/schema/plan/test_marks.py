"""Marks are enumerated within their mask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schema.plan.marks import BEFORE, DEFAULT, Marks


@st.composite
def marks(draw: st.DrawFn) -> Marks:
    mask = draw(st.integers(1, 0xFFFFFFFF))
    value = draw(st.integers(1, 0xFFFFFFFF)) & mask
    return Marks(value=value or mask, mask=mask)


@given(marks(), st.data())
def test_all_differ_and_none_is_nothing_or_has_a_bit_of_others(of: Marks, data: st.DataObject) -> None:
    numbers = data.draw(st.sets(st.integers(0, min(of.count - 1, 300)), min_size=1, max_size=30))
    values = [of.at(number) for number in numbers]
    assert len(set(values)) == len(values)
    assert all(value and not value & ~of.mask for value in values)
    assert of.at(0) == of.value
    with pytest.raises(IndexError):
        of.at(of.count)


@given(st.integers(1, 12), st.data())
def test_a_mask_has_as_many_as_fit_into_it(bits: int, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, 31), min_size=bits, max_size=bits))
    mask = sum(1 << place for place in places)
    of = Marks(value=1 << min(places), mask=mask)
    assert of.count == 2**bits - 1
    assert len({of.at(number) for number in range(of.count)}) == of.count


def test_the_first_ones_are_those_that_people_expect() -> None:
    assert [DEFAULT.at(n) for n in (0, 1, 2, 170, 171)] == [0x55, 0x56, 0x57, 0xFF, 0x01]
    assert [BEFORE.at(n) for n in (0, 1)] == [0xEA55, 0xEA56]
    high = Marks(value=0x5500, mask=0xFF00)
    assert [high.at(n) for n in (0, 1)] == [0x5500, 0x5600]


def test_a_tunnel_from_before_has_the_default_mark_of_now_in_its_own() -> None:
    assert BEFORE.value & DEFAULT.mask == DEFAULT.value


def test_the_words_are_those_of_iptables_save() -> None:
    assert (DEFAULT.match(0), DEFAULT.none, DEFAULT.put(1)) == ("0x55/0xff", "0x0/0xff", "0x56/0xff")
    assert (BEFORE.match(0), BEFORE.none, BEFORE.put(1)) == ("0xea55", "0x0", "0xea56/0xffffffff")
    assert (DEFAULT.fwmask, BEFORE.fwmask) == (0xFF, None)


@pytest.mark.parametrize("value, mask", [(0, 0xFF), (0x155, 0xFF), (1, 0), (1, 2**32)])
def test_what_is_no_mark_of_a_mask_is_refused(value: int, mask: int) -> None:
    with pytest.raises(ValidationError):
        Marks(value=value, mask=mask)
