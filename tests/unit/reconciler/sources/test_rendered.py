from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.base.errors import Stalled, Transient
from reconciler.sources.rendered import RenderedFolder
from schema.plan import HostPlan
from tests.unit.reconciler.worlds import site

PLAN = HostPlan.of("h1", site())


def write(folder: Path, data: bytes) -> RenderedFolder:
    (folder / "h1").mkdir(exist_ok=True)
    (folder / "h1" / "plan.json").write_bytes(data)
    return RenderedFolder(folder, "h1")


def test_the_commit_follows_the_contents(tmp_path: Path) -> None:
    source = write(tmp_path, PLAN.canonical())
    commit = source.fetch()
    assert source.plan(commit) == (PLAN, "")
    assert write(tmp_path, PLAN.canonical()).fetch() == commit
    assert write(tmp_path, b"{}").fetch() != commit


def test_a_plan_that_is_none_is_stalled(tmp_path: Path) -> None:
    source = write(tmp_path, b'{"host": "h1", "resources": [{"kind": "dragon"}]}')
    with pytest.raises(Stalled, match=r"plan\.json: resources\.0"):
        source.plan(source.fetch())


def test_a_plan_that_changes_meanwhile_is_read_again(tmp_path: Path) -> None:
    source = write(tmp_path, PLAN.canonical())
    commit = source.fetch()
    write(tmp_path, b"{}")
    with pytest.raises(Transient, match="changed"):
        source.plan(commit)


def test_no_plan_is_transient(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot read"):
        RenderedFolder(tmp_path, "h1").fetch()
