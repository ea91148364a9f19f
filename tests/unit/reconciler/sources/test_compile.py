from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import pytest

from reconciler.base.errors import CycleError, Stalled, Transient
from reconciler.sources.compile import Blob, CompileLimits, compile_tree, summarise

ECHO = """
import json, sys
header = json.loads(sys.stdin.buffer.readline())
files = [[path, sys.stdin.buffer.read(size).decode(), kind] for path, size, kind in header["files"]]
problems = [{"code": "GW001", "severity": "warning", "path": "a.yaml", "line": 1, "column": 2,
             "message": json.dumps([header["host"], files])}]
print(json.dumps({"plan": {"host": header["host"]}, "problems": problems}))
"""
TREE = {"b.yaml": Blob(b"bb"), "a.yaml": Blob(b"a"), "keys/x": Blob(b"/etc", "symlink")}


def child(program: str) -> Sequence[str]:
    return [sys.executable, "-I", "-c", program]


def test_the_child_gets_the_host_and_every_file() -> None:
    plan, note = compile_tree(child(ECHO), "nas", TREE)
    assert plan.host == "nas"
    said = json.loads(note.removeprefix("a.yaml:1:2: warning[GW001]: "))
    assert said == ["nas", [["a.yaml", "a", "file"], ["b.yaml", "bb", "file"], ["keys/x", "/etc", "symlink"]]]


@pytest.mark.parametrize(
    ("program", "reason", "message"),
    [
        ("print('nonsense')", "CompilerFailed", "the compiler's answer is not a plan"),
        ('print(\'{"plan": {"host": 1}}\')', "CompilerFailed", "plan.host"),
        ('print(\'{"plan": null, "problems": []}\')', "Problems", "there is no plan for nas"),
        ("import time; time.sleep(60)", "CompilerTimeout", "more than 0.5 s"),
    ],
)
def test_an_answer_that_is_no_plan_is_the_commits_fault(program: str, reason: str, message: str) -> None:
    limits = CompileLimits(seconds=0.5) if "sleep" in program else CompileLimits(memory=512 << 20)
    with pytest.raises(Stalled, match=message) as error:
        compile_tree(child(program), "nas", TREE, limits)
    assert (error.value.condition, error.value.reason) == ("Compiled", reason)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('boom')", "the compiler ended with exit code 1: boom"),
        ("import os; os.kill(os.getpid(), 9)", "the compiler ended with signal 9"),
        ("x = bytearray(1 << 30)", "MemoryError"),
    ],
)
def test_a_compiler_that_crashes_is_asked_again_later(program: str, message: str) -> None:
    with pytest.raises(Transient, match=message) as error:
        compile_tree(child(program), "nas", TREE, CompileLimits(memory=512 << 20))
    assert (error.value.condition, error.value.reason) == ("Compiled", "CompilerFailed")


def test_problems_come_back_with_their_place() -> None:
    problem = {"code": "GW031", "severity": "error", "path": "a.yaml", "line": 3, "column": 1, "message": "overlaps"}
    program = f"import sys, json; print(json.dumps({{'plan': None, 'problems': [{problem}] * 2}}))"
    with pytest.raises(Stalled, match=r"a\.yaml:3:1: error\[GW031\]: overlaps \(and 1 more\)"):
        compile_tree(child(program), "nas", TREE)


def test_errors_are_named_before_warnings() -> None:
    problems = [{"severity": "warning", "code": "W", "path": "a"}, {"severity": "error", "code": "E", "path": "b"}]
    assert summarise(problems).startswith("b: error[E]")


def test_the_child_gets_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    program = "import os, json; print(json.dumps({'plan': None, 'problems': [{'message': str(dict(os.environ))}]}))"
    with pytest.raises(Stalled) as error:
        compile_tree(child(program), "nas", {})
    assert "s3cret" not in error.value.message


def test_a_missing_compiler_may_come_back() -> None:
    with pytest.raises(Transient) as error:
        compile_tree(["/nowhere/compiler"], "nas", {})
    assert isinstance(error.value, CycleError) and error.value.reason == "CompilerMissing"
