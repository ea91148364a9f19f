"""Writes files completely or not at all, and reports a disk error as a problem and not as a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from schema.problem import Place, Problem, Problems

T = TypeVar("T")


def write(path: Path, content: str | bytes) -> None:
    """Replace a file by way of a temporary file beside it. Raises Problems."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.new")

    def through() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)

    try:
        refuse(path, through)
    except Problems:
        with suppress(OSError):
            beside.unlink()
        raise


def refuse(path: Path, action: Callable[[], T]) -> T:
    """Run an action that uses the disk, and return its result. Raises Problems, with `path` as place, if the disk
    fails."""
    try:
        return action()
    except OSError as error:
        where = Place(str(error.filename or path))
        hint = "look at its permissions, and that it is no folder"
        raise Problems([Problem("GW071", where, f"cannot be written: {error.strerror}", hint)]) from None


OURS = (".conf", ".rules", ".batch", "plan.json", ".age")


def replace(folder: Path, files: Mapping[str, str]) -> None:
    """Make a folder contain exactly these files, or remove it if there are none.

    Raises Problems if the folder contains other files, and leaves it unchanged then.
    """
    strangers = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(OURS)]
    if strangers:
        hint = "`--out` is for a folder of its own: what stood in it is replaced"
        raise Problems([Problem("GW073", Place(str(strangers[0])), "not written by `gitwan compile`", hint)])
    if folder.exists():
        refuse(folder, lambda: shutil.rmtree(folder))
    for name, text in files.items():
        write(folder / name, text)
