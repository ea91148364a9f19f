"""The lane's machine is booted before the first test of a run: it works while other tests wait."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LANE = pytest.StashKey["subprocess.Popen[str]"]()


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if not config.option.collectonly and any(item.get_closest_marker("kernel") for item in session.items):
        config.stash[_LANE] = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.kernel.run"],
            cwd=config.rootpath, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0,
        )  # fmt: skip


def pytest_unconfigure(config: pytest.Config) -> None:
    lane = config.stash.get(_LANE, None)
    if lane is not None and lane.poll() is None:
        lane.terminate()  # it has a guest to end, and does
        lane.communicate()


@pytest.fixture
def lane(request: pytest.FixtureRequest) -> subprocess.Popen[str]:
    """`python -m tests.kernel.run`, at work since the tests were collected."""
    return request.config.stash[_LANE]
