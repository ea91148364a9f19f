"""The journal: a file that exists exactly while the kernel may be between two plans."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.base.files import dump_json, read_object, remove, write_atomic


@dataclass(frozen=True, slots=True)
class Journal:
    """From which plan to which, and where it was written. An empty digest stands for no plan at all."""

    from_digest: str
    to_digest: str
    commit: str
    boot: str
    netns: int
    """The inode of the network namespace."""


CORRUPT = Journal("", "", "", "", 0)
"""Stands for a journal that was there and could not be read: something was under way, nobody knows what."""


def here() -> tuple[str, int]:
    """This boot's id and this network namespace's inode; either empty where /proc does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    try:
        netns = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - follows the magic link
    except OSError:
        netns = 0
    return boot, netns


def write(path: Path, journal: Journal) -> None:
    """On the disk when this returns, the file and its name. Raises OSError, and then nothing may be changed."""
    write_atomic(path, dump_json(asdict(journal)))


def read(path: Path) -> Journal | None:
    """The open journal, `CORRUPT` for one that cannot be read, or None."""
    value, corrupt = read_object(path)
    if corrupt:
        return CORRUPT
    if value is None:
        return None
    try:
        return Journal(**value)
    except TypeError:
        return CORRUPT


def clear(path: Path) -> None:
    remove(path)
