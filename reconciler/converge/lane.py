"""The lane to the kernel: one thread at a time reads or changes it, in the order in which they came.

A holder that has to wait for something else (a probe, a daemon's start, a resolver) steps aside meanwhile, so that the
failover of a tunnel or a loop's delta does not wait behind a silent server.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Lane:
    """A fair lock that may be held again by the thread that has it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._holder: int | None = None
        self._depth = 0
        self._firm = False
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have the lane for oneself; nested calls of one thread count as one."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let others use the lane while this thread waits. What it knows of the kernel may be outdated afterwards.

        A thread that does not hold the lane, as in a command that runs alone, gives nothing up.
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
        """Do not step aside in what follows: it is short, and must not be overtaken by what comes after it."""
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
        turn.wait()  # whoever leaves has made this thread the holder

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
