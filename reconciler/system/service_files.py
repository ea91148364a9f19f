"""The files of each daemon in the folder for daemons.

NAME.conf   the configuration, written atomically after the daemon's own check has accepted it
NAME.d/     the files that it refers to, and the daemon's own files
NAME.told   the digest of what the running daemon was told last, and a line for each of its files
NAME.pid    its pid file, which the daemon or the agent writes
NAME.ready  written by a daemon when it is ready
NAME.log    the output of a foreground daemon
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from reconciler.base.files import write_atomic
from schema.plan import Service
from schema.plan.service import FOLDER, Daemon, ServiceFile

LOG_BYTES = 1 << 20
"""A larger log is cut to its last quarter at the next reading."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of one daemon's files, in the folder for all daemons."""

    folder: Path
    name: str

    def path(self, ending: str) -> Path:
        return self.folder / f"{self.name}.{ending}"

    @property
    def files(self) -> Path:
        return self.path("d")


def told(paths: Paths, name: Daemon) -> Service | None:
    """What a daemon was told last; an unknown service if a file has changed since; None if it was told nothing."""
    try:
        config = _text(paths.path("conf"))
    except FileNotFoundError:
        return None
    digest, names = told_of(paths)
    files = []
    for file in names:
        try:
            text = _text(paths.files / file)
        except OSError:
            return unknown(name)
        files.append((file, text))
    if digest != _digest(config, files):
        return unknown(name)
    here = str(paths.files)
    return Service.model_construct(
        None,
        kind="service",
        name=name,
        config=config.replace(here, FOLDER),
        files=tuple(ServiceFile(name=file, text=text.replace(here, FOLDER)) for file, text in files) or None,
    )


def unknown(name: Daemon) -> Service:
    return Service.model_construct(None, kind="service", name=name, config="", files=None)


def _rendered(service: Service, paths: Paths) -> tuple[str, list[tuple[str, str]]]:
    """The configuration and the files, with their folder's path filled in."""
    here = str(paths.files)
    files = [(file.name, file.text.replace(FOLDER, here)) for file in service.files or ()]
    return service.config.replace(FOLDER, here), files


def write(service: Service, paths: Paths) -> None:
    """Write every file atomically, the configuration last. Raises OSError."""
    config, files = _rendered(service, paths)
    if files:
        paths.files.mkdir(exist_ok=True, mode=0o700)
    for name, text in files:
        write_atomic(paths.files / name, text.encode())
    write_atomic(paths.path("conf"), config.encode())


def remove(paths: Paths) -> None:
    for path in paths.folder.glob(f"{paths.name}.*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def note(service: Service, paths: Paths) -> None:
    """Note what the daemon has been told."""
    config, files = _rendered(service, paths)
    lines = [_digest(config, files), *(name for name, _ in files)]
    write_atomic(paths.path("told"), "\n".join(lines).encode())


def told_of(paths: Paths) -> tuple[str, list[str]]:
    """The digest of what a daemon was told, and the names of its files."""
    try:
        digest, *names = paths.path("told").read_text().split("\n")
    except FileNotFoundError:
        return "", []
    return digest, names


def _text(path: Path) -> str:
    """The text of a file; invalid bytes are replaced, so that it differs from anything told. Raises OSError."""
    return path.read_bytes().decode(errors="replace")


def _digest(config: str, files: Sequence[tuple[str, str]]) -> str:
    data = config.encode()
    for name, text in files:
        data += b"\0%s\0%s" % (name.encode(), text.encode())
    return blake2b(data, digest_size=16).hexdigest()


def number(pid: Path) -> int | None:
    try:
        return int(pid.read_text())
    except (OSError, ValueError):
        return None


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, most: int) -> str:
    """The last `most` bytes of a file."""
    if most <= 0:
        return ""
    with path.open("rb") as file:
        file.seek(-min(most, size(path)), os.SEEK_END)
        return file.read().decode(errors="replace")


def trim(log: Path) -> None:
    """Cut a log in place: its writer appends, so its next output follows the rest."""
    if size(log) > LOG_BYTES:
        rest = tail(log, LOG_BYTES // 4).partition("\n")[2]
        os.truncate(log, 0)
        with log.open("a") as file:
            file.write(rest)
