"""Detects that another program keeps undoing our changes, and computes how long to wait. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.converge.diff import ResourceName

WINDOW = 60.0
"""Seconds for which a repair is remembered."""
LIMIT = 5
"""More repairs of one resource than this within the window are a contest."""
LONGEST = 60.0
"""Maximum seconds between two repairs."""


@dataclass(slots=True)
class _History:
    repairs: deque[float] = field(default_factory=deque)
    text: str = ""


class Contest:
    """The repairs of the last minute, by resource. Times are in seconds of any one clock."""

    def __init__(self, limit: int = LIMIT, window: float = WINDOW) -> None:
        self.limit = limit
        self.window = window
        self._histories: dict[ResourceName, _History] = {}

    def note(self, repaired: Iterable[tuple[ResourceName, str]], now: float) -> None:
        """Remember repairs, each with its resource as text."""
        for name, text in repaired:
            history = self._histories.setdefault(name, _History())
            history.text = text
            history.repairs.append(now)
        self._forget(now)

    def contested(self, now: float) -> list[tuple[ResourceName, str, int]]:
        """The contested resources: name, text, and the number of repairs in the window."""
        self._forget(now)
        return [
            (name, history.text, len(history.repairs))
            for name, history in sorted(self._histories.items(), key=lambda item: (item[0][0], item[1].text))
            if len(history.repairs) > self.limit
        ]

    def delay(self, now: float) -> dict[str, float]:
        """Seconds to wait before the next repair, by kind. The pause doubles with each repair beyond the limit."""
        waits: dict[str, float] = {}
        for (kind, _), _, count in self.contested(now):
            waits[kind] = max(waits.get(kind, 0.0), min(LONGEST / 2, 2.0 ** (count - self.limit - 1)))
        return waits

    def _forget(self, now: float) -> None:
        for name in list(self._histories):
            repairs = self._histories[name].repairs
            while repairs and repairs[0] <= now - self.window:
                repairs.popleft()
            if not repairs:
                del self._histories[name]
