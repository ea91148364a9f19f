"""A copy in which one module is wrong: the tree itself is never touched, and the copy is whole again afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.plant import by_hand
from tests.mutants.run import Copy
from tests.mutants.table import ROOT

MODULE = "schema/quiet.py"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.setattr("tests.mutants.run.COPIED", ("schema", "tests/__init__.py", "pyproject.toml"))
    (tmp_path / "tests").mkdir()
    return Copy(tmp_path)


def test_a_mistake_is_seen_by_the_tests_of_the_copy_and_taken_back(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.mutants.run.OPTIONS", ("-x", "-q", "-p", "no:cacheprovider"))
    text = (ROOT / MODULE).read_text()
    mutant = by_hand(MODULE, text, "import gc", "import gc; WRONG = 1")
    for body, caught in (("assert not hasattr(quiet, 'WRONG')", True), ("assert quiet.WRONG", False)):
        (tmp_path / "test_it.py").write_text(f"from schema import quiet\n\ndef test_it():\n    {body}\n")
        outcome = copy.tried(mutant, ["test_it.py"], 60.0)
        assert (outcome.caught, outcome.by) == (caught, "test_it.py::test_it" if caught else "")
    assert (tmp_path / MODULE).read_text() == text == (ROOT / MODULE).read_text()


def test_what_hangs_is_caught(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutants.run.OPTIONS", ("-q", "-p", "no:cacheprovider"))
    (tmp_path / "test_it.py").write_text("import signal\n\ndef test_it():\n    signal.pause()\n")
    assert copy.run(["test_it.py"], 1.0) == "no end in time"
