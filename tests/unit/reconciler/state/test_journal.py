from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.state import journal
from reconciler.state.journal import CORRUPT, Journal

ENTRY = Journal("from", "to", "c1", "boot", 7)


def test_a_journal_is_open_until_it_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    assert journal.read(path) is None
    journal.write(path, ENTRY)
    assert journal.read(path) == ENTRY
    journal.clear(path)
    assert journal.read(path) is None


@pytest.mark.parametrize("data", [b"", b"{}", b'{"from_digest": 1, "more": 2}', b"null"])
def test_one_that_cannot_be_read_is_still_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.json"
    path.write_bytes(data)
    assert journal.read(path) == CORRUPT


def test_it_says_where_it_was_written() -> None:
    boot, netns = journal.here()
    assert boot and netns


def test_a_boot_has_one_id_for_as_long_as_it_lasts() -> None:
    boot, netns = journal.here()
    assert journal.here() == (boot, netns) and boot and netns
