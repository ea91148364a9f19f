"""Files that survive a crash: written completely or not at all, and read without trust."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, *, durable: bool = True, mode: int = 0o600) -> None:
    """Replace the content of `path` atomically; with `durable`, it is on disk on return. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, for its mode
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file durably; a missing file is no error. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def dump_json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def read_object(path: Path) -> tuple[dict[str, Any] | None, bool]:
    """The JSON object in a file, and whether the file was corrupt; a corrupt file is renamed to `NAME.corrupt`."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, False
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value, False
    set_aside(path)
    return None, True


def set_aside(path: Path) -> None:
    """Rename an unreadable file to `NAME.corrupt`, and replace an older one. Best effort."""
    try:
        path.replace(path.with_name(path.name + ".corrupt"))
    except OSError:
        pass
