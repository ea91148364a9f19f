"""Waits until a started program is ready, judged by its actions, not by the clock."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LIBC = ctypes.CDLL(None, use_errno=True)
_IN_MODIFY, _IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x8, 0x80, 0x100
_AGAIN = 0.05
"""Seconds between two tests if nothing announces the change: whether a socket accepts connections."""


@dataclass(frozen=True, slots=True)
class Appears:
    """Ready when a file or a socket exists."""

    path: Path
    announced = True

    def __call__(self) -> bool:
        return self.path.exists()


@dataclass(frozen=True, slots=True)
class Answers:
    """Ready when a GET for `path` returns 200, on a Unix socket or on a port of the loopback interface."""

    at: Path | int
    path: str = "/"
    announced = False

    def __call__(self) -> bool:
        family, address = (
            (socket.AF_INET, ("127.0.0.1", self.at)) if isinstance(self.at, int) else (socket.AF_UNIX, str(self.at))
        )
        answer = b""
        with socket.socket(family, socket.SOCK_STREAM) as client, suppress(OSError):
            client.settimeout(1.0)
            client.connect(address)
            client.sendall(f"GET {self.path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            while b"\n" not in answer and (data := client.recv(1024)):
                answer += data
        return answer.split(maxsplit=2)[1:2] == [b"200"]


@dataclass(frozen=True, slots=True)
class Runs:
    """Ready when its process is found, which writes its own file into the folder."""

    found: Callable[[], object]
    announced = True

    def __call__(self) -> bool:
        return self.found() is not None


Ready = Appears | Answers | Runs


class Starting:
    """A program's start. Create it before the start, so that no event in the folder is missed."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder does not exist."""
        self._changes: int | None = _LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._changes == -1:
            self._changes = None  # wireguard-go uses one of the user's instances per tunnel; if none is left, poll
            return
        mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE
        if _LIBC.inotify_add_watch(self._changes, os.fsencode(folder), mask) == -1:
            number = ctypes.get_errno()
            os.close(self._changes)
            raise OSError(number, os.strerror(number))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._changes is not None:
            os.close(self._changes)

    def wait(self, ready: Ready, process: Callable[[], int | None], seconds: float) -> bool:
        """Whether it is ready within `seconds`; False as soon as its process, once known, has ended."""
        end = time.monotonic() + seconds
        with _Handle(process) as handle:
            while not ready():
                left, descriptor = end - time.monotonic(), handle.open()
                if left <= 0 or handle.ended():
                    return False
                announced = ready.announced and self._changes is not None
                self._sleep(descriptor, left if announced else min(left, _AGAIN))
        return True

    def _sleep(self, handle: int | None, seconds: float) -> None:
        """Sleep until something happens in the folder, the process ends, or the time is over."""
        waiting = select.poll()
        for descriptor in (handle, self._changes):
            if descriptor is not None:
                waiting.register(descriptor, select.POLLIN)
        waiting.poll(seconds * 1000)
        if self._changes is not None:
            with suppress(BlockingIOError):  # nothing happened: the time is over
                os.read(self._changes, 1 << 16)


class _Handle:
    """A descriptor of a process that may not be known at first."""

    def __init__(self, process: Callable[[], int | None]) -> None:
        self._process = process
        self._descriptor: int | None = None
        self._gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def open(self) -> int | None:
        if self._descriptor is None and not self._gone and (pid := self._process()) is not None:
            try:
                self._descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                self._gone = True
        return self._descriptor

    def ended(self) -> bool:
        return self._gone or (self._descriptor is not None and ended(self._descriptor, 0))


def ended(handle: int, seconds: float) -> bool:
    """Whether the process of a descriptor has ended within `seconds`."""
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


@contextmanager
def opened(pid: int | None) -> Iterator[int | None]:
    """A descriptor of a process, which stays with it even if the id is reused; None if it has ended."""
    try:
        handle = None if pid is None else os.pidfd_open(pid)
    except ProcessLookupError:
        handle = None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)
