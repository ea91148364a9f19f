"""The ends of processes that are not ours to wait for, as events."""

from __future__ import annotations

import os
import select
import threading
import time

SETTLED = 10.0
"""Seconds that a daemon has to have been known to run for its end to be told. One that ends sooner is found at the next
look, so that a daemon that always ends is not started again without a pause."""


class Ends:
    """A descriptor that becomes readable when a daemon ends: used as `events.Watch` is. Safe for threads."""

    def __init__(self, settled: float = SETTLED) -> None:
        """Raises OSError."""
        self._settled = settled
        self._ready = select.epoll()
        self._known: dict[str, tuple[int, int, float]] = {}
        """Name -> process, its descriptor, and since when it is known."""
        self._lock = threading.Lock()

    def follow(self, name: str, pid: int | None) -> None:
        """The process that a daemon has now; None where it has none, so that nothing is told of its end."""
        with self._lock:
            known = self._known.get(name)
            if known is not None and known[0] == pid:
                return
            self._forget(name)
            if pid is None:
                return
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                return  # it has just ended: the next look says so
            self._known[name] = pid, handle, time.monotonic()
            self._ready.register(handle, select.EPOLLIN)

    def filenos(self) -> list[int]:
        """File descriptors to wait for, always the same, for example with asyncio's `add_reader`."""
        return [self._ready.fileno()]

    def read(self) -> tuple[set[str], bool]:
        """The kinds touched since the last call, without blocking; there are never more."""
        touched: set[str] = set()
        with self._lock:
            ended = {handle for handle, _ in self._ready.poll(0)}
            for name, (_, handle, since) in list(self._known.items()):
                if handle in ended:
                    self._forget(name)
                    if time.monotonic() - since >= self._settled:
                        touched.add("service")
        return touched, False

    def close(self) -> None:
        with self._lock:
            for name in list(self._known):
                self._forget(name)
            self._ready.close()

    def _forget(self, name: str) -> None:
        if (known := self._known.pop(name, None)) is not None:
            self._ready.unregister(known[1])
            os.close(known[1])
