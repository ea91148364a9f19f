"""Which kinds the kernel has announced changes of, and that nobody has looked at since."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Protocol

STEPS = 256
"""Steps in which what was announced is read before a look."""


class EventSource(Protocol):
    """Where the kernel's events come from (`system/events.py`)."""

    def filenos(self) -> Iterable[int]: ...

    def read(self) -> tuple[set[str], bool]:
        """The kinds touched by a bounded number of events, without waiting, and whether more may be there."""
        ...


class Touched:
    """The kinds touched. Two threads read: the event loop, and whoever is about to look at the kernel."""

    def __init__(self, *watches: EventSource) -> None:
        self._watches = watches
        self._lock = threading.Lock()
        self._kinds: set[str] = set()

    def filenos(self) -> Iterable[int]:
        """Descriptors that become readable with the next event."""
        return [descriptor for watch in self._watches for descriptor in watch.filenos()]

    def hear(self) -> bool:
        """Read a bounded number of events, and say whether any kind waits to be looked at. Raises OSError."""
        self._step()
        return bool(self._kinds)

    def covered(self, kinds: Iterable[str]) -> None:
        """These kinds are about to be read: what was announced until now is covered by that. Raises OSError.

        Most of it is our own doing. It is read in steps, between which the event loop gets its turn; where it does not
        end, these kinds stay touched and are looked at once more.
        """
        for _ in range(STEPS):
            if not self._step():
                break
        else:
            return
        with self._lock:
            self._kinds.difference_update(kinds)

    def kinds(self) -> set[str]:
        """What waits to be looked at."""
        with self._lock:
            return set(self._kinds)

    def _step(self) -> bool:
        with self._lock:
            found = [watch.read() for watch in self._watches]
            self._kinds.update(kind for kinds, _ in found for kind in kinds)
            return any(more for _, more in found)
