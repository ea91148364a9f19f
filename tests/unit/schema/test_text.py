from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from schema.problem import Place, Problem
from schema.text import Text, parse

numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text()
documents = st.dictionaries(
    st.text(max_size=20),
    st.recursive(
        scalars, lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=8), one, max_size=4)
    ),
    max_size=5,
)


def read(text: str) -> Any:
    found = parse("f.yaml", text.encode())
    assert isinstance(found, Text), found
    return found.data


def only_text(value: Any) -> bool:
    """Whether all keys are text."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and only_text(item) for key, item in value.items())
    return all(map(only_text, value)) if isinstance(value, list) else True


@given(documents)
def test_a_document_is_read_as_the_library_reads_it(document: dict[str, Any]) -> None:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(document, stream)
    try:
        expected = YAML(typ="safe").load(stream.getvalue())
    except YAMLError:
        reject()  # the library writes some texts that it cannot read
    if not only_text(expected):
        reject()  # a key that reads as a number stays text here: keys are names
    assert read(stream.getvalue()) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10s", "10s"), ("yes", "yes"), ("on", "on"), ("0x1f", 31), ("0o17", 15), ("017", 17), ("1e3", 1000.0),
        ("~", None), ("", None), ("null", None), ("True", True), ("'1'", "1"), ("1_000", "1_000"), ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"), (".5", 0.5), ("-7", -7), ("fd00::1", "fd00::1"),
    ],
)  # fmt: skip
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = read(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


def test_an_ipv6_network_needs_no_quotes_in_a_flow_list() -> None:
    assert read("a: [10.0.0.0/8, fd00:255::/48, ::1/128]") == {"a": ["10.0.0.0/8", "fd00:255::/48", "::1/128"]}


def test_an_alias_stands_for_what_it_names() -> None:
    assert read("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("loc", "key", "place"),
    [
        (("hosts", "gw", "lans", "eno4", "addresses", 1), False, Place("f.yaml", 4, 24)),
        (("hosts", "gw"), True, Place("f.yaml", 2, 3)),
        (("hosts", "nobody"), False, Place("f.yaml", 2, 3)),
        ((), False, Place("f.yaml", 1, 1)),
    ],
)
def test_every_value_has_its_place(loc: tuple[str | int, ...], key: bool, place: Place) -> None:
    text = parse("f.yaml", b"hosts:\n  gw:\n    lans:\n      eno4: [10.0.0.1, 10.0.0.2]\n")
    assert isinstance(text, Text)
    assert text.place(loc, key=key) == place


@pytest.mark.parametrize("size", [700, 5000, 60_000])
def test_deep_nesting_is_a_problem_and_no_crash(size: int) -> None:
    for opening in ("[", "{a: ", "- "):
        found = parse("f.yaml", ("a:\n  " + opening * (size // len(opening))).encode())
        assert isinstance(found, Problem)


def test_a_byte_order_mark_is_no_content() -> None:
    assert read("\ufeffa: 1") == {"a": 1}
