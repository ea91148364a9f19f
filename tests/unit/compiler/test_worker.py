from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from compiler.shell.inputs import read_folder
from compiler.worker import run
from schema.plan import HostPlan

EXAMPLE = read_folder(Path(__file__).parents[3] / "sites").files


def ask(host: str, files: dict[str, bytes], special: dict[str, str] | None = None) -> dict[str, Any]:
    rows = [[path, len(content), "file"] for path, content in files.items()]
    rows += [[path, 0, kind] for path, kind in (special or {}).items()]
    request = json.dumps({"host": host, "files": rows}).encode() + b"\n" + b"".join(files.values())
    answer = io.BytesIO()
    run(io.BytesIO(request), answer)
    found: dict[str, Any] = json.loads(answer.getvalue())
    return found


def test_a_plan_for_one_host() -> None:
    answer = ask("nas", EXAMPLE)
    assert HostPlan.model_validate(answer["plan"]).host == "nas"
    assert answer["problems"] == []


def test_a_host_that_has_no_plan_is_told_who_has() -> None:
    answer = ask("nobody", EXAMPLE)
    assert answer["plan"] is None
    assert answer["problems"][-1]["code"] == "GW070"
    assert "ams-gw1" in answer["problems"][-1]["hint"]


def test_problems_come_instead_of_a_plan() -> None:
    answer = ask("nas", {**EXAMPLE, "home.yaml": b"site: ["})
    assert answer["plan"] is None
    assert [problem["code"] for problem in answer["problems"]] == ["GW001"]


def test_another_host_without_a_key_does_not_stop_this_one() -> None:
    answer = ask("nas", {path: text for path, text in EXAMPLE.items() if path != "keys/vpn-singapore.pub"})
    assert answer["plan"]["host"] == "nas"
    assert "GW023" in [problem["code"] for problem in answer["problems"]]


def test_a_symbolic_link_is_a_problem() -> None:
    assert ask("nas", EXAMPLE, {"keys/x.pub": "symlink"})["problems"][0]["code"] == "GW006"


def test_half_a_request_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"a\.yaml: 3 of 10 bytes"):
        run(io.BytesIO(b'{"host":"a","files":[["a.yaml",10,"file"]]}\nabc'), io.BytesIO())
