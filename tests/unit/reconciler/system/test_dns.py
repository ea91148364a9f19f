"""A question to a DNS server, and what may come back."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.provider.web import resolved
from reconciler.system.dns import answer, query
from schema.plan.base import Family

NAMES, NAMES6 = {"check.example": "192.0.2.80"}, {"check.example": "2001:db8::80"}
FAMILIES: tuple[Family, ...] = ("inet", "inet6")
ALIAS = b"\xc0\x0c\0\5\0\1\0\0\0\x1e\0\2\xc0\x12"


def asked(family: Family = "inet", name: str = "check.example") -> bytes:
    return query(b"\x12\x34", name, family)


def test_a_server_says_an_address_of_each_family() -> None:
    assert [answer(asked(f), resolved(asked(f), NAMES, NAMES6), f) for f in FAMILIES] == ["192.0.2.80", "2001:db8::80"]


def test_a_name_without_an_address_has_none() -> None:
    unknown = asked(name="leak.example")
    assert answer(unknown, resolved(unknown, NAMES, {}), "inet") is None
    assert answer(asked("inet6"), resolved(asked("inet6"), NAMES, {}), "inet6") is None


def test_an_alias_is_followed_by_what_it_leads_to() -> None:
    plain = resolved(asked(), NAMES, {})
    records = plain[len(asked()) :]
    assert answer(asked(), plain[:7] + b"\2" + plain[8 : len(asked())] + ALIAS + records, "inet") == "192.0.2.80"


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0xFF), (2, 0x01), (3, 0x83), (5, 2), (13, ord("x"))],
    ids=["number", "no answer", "error", "questions", "name"],
)
def test_an_answer_to_something_else_is_none(place: int, value: int) -> None:
    data = bytearray(resolved(asked(), NAMES, {}))
    data[place] = value
    assert answer(asked(), bytes(data), "inet") is None


@given(st.binary(max_size=80), st.integers(0, 60))
def test_whatever_comes_is_an_address_or_nothing(tail: bytes, cut: int) -> None:
    for family in FAMILIES:
        for data in (tail, resolved(asked(family), NAMES, NAMES6)[:cut] + tail):
            if found := answer(asked(family), data, family):
                socket.inet_pton(socket.AF_INET6 if family == "inet6" else socket.AF_INET, found)


@given(st.from_regex(r"\A[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63}){0,3}\Z"), st.sampled_from(FAMILIES))
def test_any_name_comes_back(name: str, family: Family) -> None:
    if len(name) <= 253:
        found = resolved(asked(family, name), {name.lower(): "192.0.2.1"}, {name.lower(): "2001:db8::1"})
        assert answer(asked(family, name), found, family) in ("192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize("name", ["", "a..b", "a" * 64, ".".join(["a"] * 130), "ü.example", "a b"])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        asked(name=name)
