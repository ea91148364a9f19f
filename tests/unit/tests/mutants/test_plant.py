"""Mistakes that are planted in a text: each is one, each compiles, and nothing is planted where nothing would run."""

from __future__ import annotations

import pytest

from tests.mutants.plant import by_hand, plant, sample

TEXT = '''\
"""What it does: 1 < 2."""

from x import y

LIMIT = 64


def spare(used: list[int], more: bool = False) -> int:
    """Not here: 1."""
    if used and max(used) >= LIMIT:
        return 0
    y.note(f"{1 + 2}")
    return LIMIT - sum(used)
'''


def test_each_is_one_mistake_that_compiles() -> None:
    found = {(one.before, one.after) for one in plant("m.py", TEXT)}
    assert ("LIMIT = 64", "LIMIT = 65") in found
    assert ("if used and max(used) >= LIMIT:", "if (used or (max(used) >= LIMIT)):") in found
    assert ("if used and max(used) >= LIMIT:", "if used and (max(used) > LIMIT):") in found
    assert ("if used and max(used) >= LIMIT:", "if used and min(used) >= LIMIT:") in found
    assert ("return LIMIT - sum(used)", "return (LIMIT + sum(used))") in found
    assert ('y.note(f"{1 + 2}")', "pass") in found
    for one in plant("m.py", TEXT):
        compile(one.text, "m.py", "exec")
        assert one.text != TEXT


def test_nothing_is_planted_where_nothing_runs() -> None:
    spared = ('"""', "from x import y")
    for one in plant("m.py", TEXT):
        assert not one.before.startswith(spared)
        assert one.text.count("{1 + 2}") == 1 or one.after == "pass"


def test_a_sample_is_the_same_each_time_and_spread_over_the_lines() -> None:
    mutants = plant("m.py", TEXT)
    lines = {one.line for one in mutants}
    chosen = sample(mutants, len(lines), 7)
    assert chosen == sample(mutants, len(lines), 7)
    assert {one.line for one in chosen} == lines
    assert sample(mutants, 1000, 7) == sorted(mutants, key=lambda one: (one.line, one.after))


def test_one_by_hand_has_its_place_exactly_once() -> None:
    one = by_hand("m.py", TEXT, "return 0", "return 1")
    assert (one.line, one.before, one.after) == (11, "return 0", "return 1")
    for text in ("used", "nowhere"):
        with pytest.raises(LookupError, match=text):
            by_hand("m.py", TEXT, text, "")
