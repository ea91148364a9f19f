"""One running lab a module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import needs_root
from tests.lab.twin import Twin, playing


@pytest.fixture(scope="session")
def _root() -> None:
    needs_root()


@pytest.fixture
def short_folder(_root: None) -> Iterator[Path]:
    """A path that leaves room for the names of Unix sockets; nothing is there yet."""
    folder = Path(tempfile.mkdtemp(prefix="gwlab-", dir="/tmp"))
    folder.rmdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def twin(_root: None) -> Iterator[Twin]:
    """The example network, converged, with every tunnel up."""
    with playing() as twin:
        twin.settle()
        yield twin
