from __future__ import annotations

import pytest

from schema.input import is_input, is_refused


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("fabric.yaml", True), ("deep/er/a.yml", True), ("fabric.lock", True), ("keys/a.pub", True),
        (".github/workflows/ci.yaml", False), ("a/.hidden/b.yaml", False), ("README.md", False), ("keys/a.txt", False),
        ("other/fabric.lock", False),
    ],
)  # fmt: skip
def test_which_files_are_read(path: str, ours: bool) -> None:
    assert is_input(path) is ours


@pytest.mark.parametrize(
    ("path", "kind", "refused"),
    [
        ("keys/a.pub", "symlink", True),
        ("clients", "symlink", True),
        ("docs/latest.md", "symlink", False),
        (".github/x", "symlink", False),
        ("vendor", "submodule", True),
    ],
)
def test_what_is_no_plain_file_is_refused_where_one_would_be_read(path: str, kind: str, refused: bool) -> None:
    assert is_refused(path, kind) is refused
