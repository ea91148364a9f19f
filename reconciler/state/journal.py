"""The journal: a file that exists exactly while the kernel may be between two plans."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.base.files import dump_json, read_object, remove, write_atomic


@dataclass(frozen=True, slots=True)
class Journal:
    """The old plan, the new plan, and where this was written. An empty digest means no plan."""

    from_digest: str
    to_digest: str
    commit: str
    boot: str
    netns: int
    """The inode of the network namespace."""


CORRUPT = Journal("", "", "", "", 0)
"""A journal that exists but cannot be read: a change was under way, but which one is unknown."""


def here() -> tuple[str, int]:
    """This boot's id and this network namespace's inode; each is empty or 0 if /proc does not tell."""
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
    """Write the journal durably, both file and name. Raises OSError; then nothing may be changed."""
    write_atomic(path, dump_json(asdict(journal)))


def read(path: Path) -> Journal | None:
    """The open journal; `CORRUPT` if it cannot be read; None if there is none."""
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
