from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reconciler.base.errors import Stalled
from reconciler.sources.git import Clone, Remote
from reconciler.sources.repository import RenderedRepository, Repository
from schema.plan import HostPlan
from tests.unit.reconciler.sources.test_git import Origin
from tests.unit.reconciler.worlds import site

PLAN = HostPlan.of("h1", site())
COMPILER = [sys.executable, "-I", "-c", "import json; print(json.dumps({'plan': {'host': 'h1'}, 'problems': []}))"]


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "wan")


@pytest.fixture
def mirror(tmp_path: Path, origin: Origin) -> Clone:
    return Clone(tmp_path / "repo.git", Remote(str(origin.folder)))


def test_a_commit_is_compiled(origin: Origin, mirror: Clone) -> None:
    origin.commit(fabric_dot_yaml="x")
    source = Repository(mirror, "h1", COMPILER)
    assert source.plan(source.fetch()) == (HostPlan(host="h1"), "")
    assert source.name == "wan"


def test_a_rendered_plan_is_taken(origin: Origin, mirror: Clone) -> None:
    origin.commit(plans__h1__plan_dot_json=PLAN.canonical().decode())
    source = RenderedRepository(mirror, "h1", "/plans")
    assert source.plan(source.fetch()) == (PLAN, "")


def test_rendered_plans_may_stand_at_the_top(origin: Origin, mirror: Clone) -> None:
    origin.commit(h1__plan_dot_json=PLAN.canonical().decode())
    source = RenderedRepository(mirror, "h1", "/.")
    assert source.plan(source.fetch()) == (PLAN, "")


@pytest.mark.parametrize("path, folder", [("plans", "plans__"), ("/plans/", "plans__"), (".", ""), ("/", "")])
def test_what_a_rendered_plan_seals_stands_beside_it(origin: Origin, mirror: Clone, path: str, folder: str) -> None:
    commit = origin.commit(**{f"{folder}h1__secrets__psk_dot_age": "ciphertext"})
    mirror.fetch()
    source = RenderedRepository(mirror, "h1", path)
    assert (source.sealed(commit, "psk"), source.sealed(commit, "other")) == (b"ciphertext", None)


@pytest.mark.parametrize("path, folder", [("sites", "sites__"), (".", ""), ("", "")])
def test_what_a_repository_seals_stands_in_its_folder(origin: Origin, mirror: Clone, path: str, folder: str) -> None:
    commit = origin.commit(**{f"{folder}secrets__psk_dot_age": "ciphertext"})
    mirror.fetch()
    assert Repository(mirror, "h1", [], path).sealed(commit, "psk") == b"ciphertext"


def test_a_plan_that_was_not_rendered_is_stalled(origin: Origin, mirror: Clone) -> None:
    source = RenderedRepository(mirror, "h2", "plans")
    origin.commit(a_dot_yaml="x")
    with pytest.raises(Stalled, match=r"plans/h2/plan\.json is not in"):
        source.plan(source.fetch())
