"""Decides how often to read state that is not announced: large devices less often. Pure.

WireGuard can only dump all peers of a device, not a single one, so each device has its own pace. Reading it may take a
small share of a core, whatever the number of its peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LEAST = 2.0
"""Seconds between two readings of a device with few peers."""
SHARE = 0.02
"""The maximum share of a core for reading one device."""


@dataclass(slots=True)
class Pace:
    """When each part is due. Times are in seconds of a monotonic clock."""

    _due: dict[str, float] = field(default_factory=dict)

    def due(self, parts: Iterable[str], now: float) -> frozenset[str]:
        """The parts to read now; a new part is due at once."""
        known = set(parts)
        self._due = {part: at for part, at in self._due.items() if part in known}
        return frozenset(part for part in known if self._due.get(part, now) <= now)

    def took(self, counts: Mapping[str, int], seconds: float, now: float) -> None:
        """Record that reading and comparing parts of these sizes took `seconds`, until `now`."""
        total = sum(counts.values()) or 1
        for part, count in counts.items():
            self._due[part] = now + max(LEAST, seconds * count / total / SHARE)
