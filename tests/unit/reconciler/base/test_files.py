from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.base.files import read_object, remove, write_atomic


def test_a_file_is_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"{}")
    write_atomic(path, b'{"a": 1}')
    assert path.read_bytes() == b'{"a": 1}'
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"{}")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.json", b"{}")]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_is_set_aside(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert read_object(path) == (None, True)
    assert (tmp_path / "a.json.corrupt").read_bytes() == data
    assert read_object(path) == (None, False)


def test_removing_nothing_is_fine(tmp_path: Path) -> None:
    remove(tmp_path / "a")
