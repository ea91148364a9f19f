"""One folder per case: input, and what has to come of it. `make golden` writes what comes; review its diff."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from compiler.compile import Compilation, compile_files
from compiler.render import render
from compiler.review.diff import diff_plans
from compiler.review.report import markdown_report, text_report
from compiler.shell.inputs import read_folder

HERE = Path(__file__).parent
UPDATE = os.environ.get("GITWAN_GOLDEN") == "update"


def cases(kind: str) -> list[Path]:
    return sorted(path for path in (HERE / kind).iterdir() if path.is_dir())


def compiled(folder: Path) -> Compilation:
    found = read_folder(folder)
    return compile_files(found.files, found.special)


def compare(folder: Path, files: dict[str, str]) -> None:
    """The files of a folder against what came out; in update mode the folder follows."""
    if UPDATE:
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    there = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert files == there


def problem_text(result: Compilation) -> str:
    return "".join(f"{problem.text()}\n" for problem in result.problems)


@pytest.mark.parametrize("case", cases("compile"), ids=lambda case: case.name)
def test_compile(case: Path) -> None:
    result = compiled(case / "input")
    files = {"problems.txt": problem_text(result)}
    for host, plan in result.plans().items() if result.fabric else ():
        data = json.loads(plan.canonical())
        lines = ",\n".join(json.dumps(resource) for resource in data.pop("resources"))
        files[f"{host}/plan.json"] = f'{json.dumps(data)[:-1]}, "resources": [\n{lines}\n]}}\n'
        files |= {f"{host}/{name}": text for name, text in render(plan).items()}
    compare(case / "expected", files)


@pytest.mark.parametrize("case", cases("errors"), ids=lambda case: case.name)
def test_errors(case: Path) -> None:
    result = compiled(case / "input")
    assert result.problems, "a case of this folder has at least one problem"
    compare(case / "expected", {"problems.txt": problem_text(result)})


@pytest.mark.parametrize("case", cases("diff"), ids=lambda case: case.name)
def test_diff(case: Path) -> None:
    before, after = compiled(case / "before"), compiled(case / "after")
    found = diff_plans(before.plans(), after.plans())
    compare(case / "expected", {"diff.txt": text_report(found), "comment.md": markdown_report(found)})


def test_every_problem_code_has_a_case_and_a_paragraph() -> None:
    """A code that no case shows may as well not work, and one without a paragraph helps nobody."""
    import re

    root = HERE.parent.parent
    used = set()
    for package in ("schema", "compiler"):
        for path in (root / package).rglob("*.py"):
            used |= set(re.findall(r'"(GW\d{3})"', path.read_text()))
    shown = {code for path in HERE.rglob("problems.txt") for code in re.findall(r"\[(GW\d{3})\]", path.read_text())}
    documented = set(re.findall(r"^### (GW\d{3})", (root / "docs" / "problems.md").read_text(), re.MULTILINE))
    # These belong to the command line and to the agent; tests/unit shows them.
    elsewhere = {"GW006", "GW007", "GW070", "GW071", "GW072", "GW073", "GW074"}
    assert used - elsewhere == shown
    assert used == documented
