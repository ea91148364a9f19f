"""The lists of mistakes beside the sources that they speak of: what has moved there has to move here."""

from __future__ import annotations

import pytest

from tests.mutants.lists import equivalents, listed, modules_listed
from tests.mutants.plant import plant
from tests.mutants.table import ROOT, TABLE

MODULES = [row.module for row in TABLE]


@pytest.mark.parametrize("module", MODULES)
def test_each_listed_mistake_has_its_place_and_compiles(module: str) -> None:
    for mutant in listed(module):
        compile(mutant.text, module, "exec")


def test_every_module_that_is_listed_is_in_the_table() -> None:
    assert modules_listed() <= set(MODULES)
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("module", sorted({name[0] for name in equivalents()}))
def test_an_equivalent_has_a_reason_and_can_be_planted(module: str) -> None:
    """Else it excuses nothing any more, and goes."""
    text = (ROOT / module).read_text()
    names = {one.name for one in [*plant(module, text), *listed(module)]}
    for name, reason in equivalents().items():
        assert len(reason.split()) > 3, name
        assert name[0] != module or name in names


@pytest.mark.parametrize("row", TABLE, ids=MODULES)
def test_each_module_has_tests_that_are_there(row: object) -> None:
    assert isinstance(row, type(TABLE[0]))
    there = row.tests(privileged=True)
    assert there and all((ROOT / path).exists() for path in [*row.more, *row.root])
