"""Collects the kinds whose changes the kernel has announced and that have not been read since."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Protocol

STEPS = 256
"""Maximum number of steps to read announcements before the kernel is read."""


class EventSource(Protocol):
    """The source of the kernel's events (`system/events.py`)."""

    def filenos(self) -> Iterable[int]: ...

    def read(self) -> tuple[set[str], bool]:
        """The kinds of a bounded number of events, without waiting, and whether there may be more."""
        ...


class Touched:
    """The touched kinds. Two threads read events: the event loop's, and the one about to read the kernel."""

    def __init__(self, *watches: EventSource) -> None:
        self._watches = watches
        self._lock = threading.Lock()
        self._kinds: set[str] = set()

    def filenos(self) -> Iterable[int]:
        """Descriptors that become readable with the next event."""
        return [descriptor for watch in self._watches for descriptor in watch.filenos()]

    def hear(self) -> bool:
        """Read a bounded number of events. Returns whether any kind is waiting to be read. Raises OSError."""
        self._step()
        return bool(self._kinds)

    def covered(self, kinds: Iterable[str]) -> None:
        """Clear these kinds: the reading that follows covers every earlier announcement. Raises OSError.

        Most announcements are of our own changes. They are read in steps, and the event loop runs between them. If they
        do not end, the kinds stay touched and are read once more.
        """
        for _ in range(STEPS):
            if not self._step():
                break
        else:
            return
        with self._lock:
            self._kinds.difference_update(kinds)

    def kinds(self) -> set[str]:
        """The kinds that are waiting to be read."""
        with self._lock:
            return set(self._kinds)

    def _step(self) -> bool:
        with self._lock:
            found = [watch.read() for watch in self._watches]
            self._kinds.update(kind for kinds, _ in found for kind in kinds)
            return any(more for _, more in found)
