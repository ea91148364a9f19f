"""Reports the ends of processes that are not our children, as events."""

from __future__ import annotations

import os
import select
import threading
import time

SETTLED = 10.0
"""Seconds that a daemon must have run for its end to be reported. An earlier end is found at the next reading, so that
a daemon that always ends is not restarted without a pause."""


class Ends:
    """A descriptor that becomes readable when a daemon ends, for use like `events.KernelEvents`. Thread-safe."""

    def __init__(self, settled: float = SETTLED) -> None:
        """Raises OSError."""
        self._settled = settled
        self._ready = select.epoll()
        self._known: dict[str, tuple[int, int, float]] = {}
        """Name -> process id, its descriptor, and the time since which it is known."""
        self._lock = threading.Lock()

    def follow(self, name: str, pid: int | None) -> None:
        """Set the current process of a daemon; None if it has none, so that no end is reported."""
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
                return  # it has just ended: the next reading shows that
            self._known[name] = pid, handle, time.monotonic()
            self._ready.register(handle, select.EPOLLIN)

    def filenos(self) -> list[int]:
        """The descriptors to wait for, which never change, for example with asyncio's `add_reader`."""
        return [self._ready.fileno()]

    def read(self) -> tuple[set[str], bool]:
        """The kinds touched since the last call, without blocking, and False, because no more can be waiting."""
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
