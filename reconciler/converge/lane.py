"""A fair lock for the kernel: one thread at a time reads or changes it, first come, first served.

A holder that waits for something else (a probe, a daemon's start, a resolver) steps aside meanwhile, so that a tunnel's
failover or a loop's change does not wait behind a silent server.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Lane:
    """A fair, reentrant lock."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._holder: int | None = None
        self._depth = 0
        self._firm = False
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lane; nested calls of one thread count as one."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let other threads use the lane while this one waits. Its knowledge of the kernel may be outdated afterwards.

        Does nothing in a thread that does not hold the lane, such as that of a command that runs alone.
        """
        depth = self._depth if self._holder == threading.get_ident() and not self._firm else 0
        for _ in range(depth):
            self._leave()
        try:
            yield
        finally:
            for _ in range(depth):
                self._enter()

    @contextmanager
    def firmly(self) -> Iterator[None]:
        """Do not step aside in this block: it is short, and later changes must not overtake it."""
        was, self._firm = self._firm, True
        try:
            yield
        finally:
            self._firm = was

    def _enter(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._holder in (None, me):
                self._holder = me
                self._depth += 1
                return
            turn = threading.Event()
            self._waiting.append((me, turn))
        turn.wait()  # the thread that leaves makes this one the holder

    def _leave(self) -> None:
        with self._guard:
            self._depth -= 1
            if self._depth:
                return
            self._holder = None
            if self._waiting:
                self._holder, turn = self._waiting.popleft()
                self._depth = 1
                turn.set()
