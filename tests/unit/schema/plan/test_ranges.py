"""No two ranges meet, and nobody takes a number of such a space but from here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.fabric.tunnel import End
from compiler.plan.nexthops import nexthop_id
from schema.desired import Exit
from schema.plan.marks import DEFAULT
from schema.plan.ranges import (
    AGENT,
    EXIT_NEXTHOPS,
    EXIT_TABLES,
    LINK_NEXTHOPS,
    MARKS,
    MARKS_BEFORE,
    MASKS_OF_OTHERS,
    NEXTHOPS_EACH,
    OTHERS,
    RANGES,
    SLOT_MARKS,
    SLOT_TABLES,
    SLOTS_PER_EXIT,
    Range,
    meetings,
)

ROOT = Path(__file__).parents[4]
HERE = ROOT / "schema" / "plan" / "ranges.py"
SOURCES = [
    path
    for room in ("schema", "compiler", "reconciler", "lab")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path != HERE
]
TEMPLATES = sorted((ROOT / "compiler" / "render" / "templates").rglob("*.j2"))


def test_no_two_ranges_meet() -> None:
    assert meetings((*RANGES, *OTHERS)) == []


def test_two_ranges_that_meet_are_named() -> None:
    last = EXIT_NEXTHOPS.last
    planted = Range(space="nexthop", name="a planted loop", first=last, count=10, why="to be found")
    assert meetings((*RANGES, planted)) == [(EXIT_NEXTHOPS.name, "a planted loop")]
    assert meetings((*RANGES, replace(planted, first=last + 1))) == []
    assert meetings((*RANGES, replace(planted, space="table"))) == []


def test_the_default_marks_have_no_bit_of_those_that_others_use() -> None:
    assert [name for name, mask in MASKS_OF_OTHERS.items() if mask & DEFAULT.mask] == []
    assert SLOT_MARKS.last < DEFAULT.count, "every mark there can be has room in it"


def test_every_range_has_a_name_of_its_own_and_says_why() -> None:
    every = (*RANGES, *OTHERS)
    assert len({one.name for one in every}) == len(every)
    assert all(one.why and one.count > 0 for one in every)


def test_the_register_has_every_range_that_is_declared() -> None:
    import schema.plan.ranges as module

    declared = [value for value in vars(module).values() if isinstance(value, Range)]
    assert {one.name for one in declared} == {one.name for one in RANGES}


def test_what_lies_beyond_a_range_is_refused_and_not_somebody_elses() -> None:
    assert EXIT_TABLES.at(EXIT_TABLES.count - 1) == EXIT_TABLES.last
    for beyond in (-1, EXIT_TABLES.count):
        with pytest.raises(IndexError, match="exits"):
            EXIT_TABLES.at(beyond)


def test_ranges_hold_all_that_can_be_allocated() -> None:
    last = nexthop_id(End(dev="wg0", port=65535, endpoint=None), "inet6")
    assert last + 6 <= LINK_NEXTHOPS.last  # the groups that a tunnel begins
    use = Exit.model_json_schema()["properties"]["use"]["maximum"]
    assert use + 1 <= SLOTS_PER_EXIT
    assert SLOT_TABLES.count == EXIT_TABLES.count * SLOTS_PER_EXIT
    assert EXIT_NEXTHOPS.first + NEXTHOPS_EACH * (SLOT_TABLES.last - EXIT_TABLES.first) + 1 <= EXIT_NEXTHOPS.last


NUMBERS = [one for one in RANGES if one.space != "mark"]
"""Marks are counted from 0: their values are looked for beside these."""


ELSEWHERE = {("compiler/review/report.py", 60000): "bytes that a comment may have"}
"""The same numbers of something else."""


def _taken(number: int) -> str:
    """The range that a literal is out of."""
    if number in (MARKS[0], MARKS_BEFORE[0]):
        return "marks"
    return next((one.name for one in NUMBERS if one.first <= number <= one.last), "")


def _prose(tree: ast.AST) -> set[int]:
    """The strings that stand alone, as docstrings do: they are for people."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def _literals(path: Path, text: str) -> Iterator[str]:
    if path.suffix != ".py":
        numbers = [(int(word, 0), 0) for word in re.findall(r"\b(0x[0-9a-f]+|[1-9]\d*)\b", text)]
    else:
        tree = ast.parse(text)
        prose, numbers = _prose(tree), []
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and type(node.value) is int:
                numbers.append((node.value, node.lineno))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                words = re.findall(r"\b(0x[0-9a-f]+|[1-9]\d*)\b", node.value)
                numbers += [(int(word, 0), node.lineno) for word in words]
    for number, line in numbers:
        if (name := _taken(number)) and (str(path.relative_to(ROOT)), number) not in ELSEWHERE:
            yield f"{path.relative_to(ROOT)}:{line}: {number} is a number of: {name}"


@pytest.mark.parametrize("path", [*SOURCES, *TEMPLATES], ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_else_has_such_a_number(path: Path) -> None:
    assert list(_literals(path, path.read_text())) == []


@pytest.mark.parametrize(
    "text, name",
    [
        ("TABLE = 59990", "exits"),
        ("BYPASS = 0x55", "marks"),
        ("x = f'nexthop add id {n} protocol 117'", "routes, rules, nexthops and addresses of ours"),
        ("BASE = 0x70b9652", "tunnels of exits and their groups"),
    ],
)
def test_one_that_has_would_be_found(text: str, name: str) -> None:
    (found,) = _literals(ROOT / "schema" / "planted.py", f'"""Protocol 117."""\n{text}\n')
    assert found.endswith(f"is a number of: {name}") and ":2:" in found


def test_the_unit_gives_the_agent_its_group() -> None:
    unit = (ROOT / "deploy" / "gitwan-agent.service").read_text()
    assert f"\nSupplementaryGroups={AGENT}\n" in unit
