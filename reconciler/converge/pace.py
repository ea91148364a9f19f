"""How often to read what nobody announces: the larger it is, the less often. Pure.

A WireGuard device cannot be asked for one peer, only for all of them, so the pace is one of devices: each may take a
small share of a core, whatever the number of its peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LEAST = 2.0
"""Seconds between two looks at a device with few peers."""
SHARE = 0.02
"""The share of a core that looking at one device may take."""


@dataclass(slots=True)
class Pace:
    """When each part is due. Times in seconds of a monotonic clock."""

    _due: dict[str, float] = field(default_factory=dict)

    def due(self, parts: Iterable[str], now: float) -> frozenset[str]:
        """The parts to read now; one that is new is due at once."""
        known = set(parts)
        self._due = {part: at for part, at in self._due.items() if part in known}
        return frozenset(part for part in known if self._due.get(part, now) <= now)

    def took(self, counts: Mapping[str, int], seconds: float, now: float) -> None:
        """Parts with so many things each were read and compared in so many seconds, until now."""
        total = sum(counts.values()) or 1
        for part, count in counts.items():
            self._due[part] = now + max(LEAST, seconds * count / total / SHARE)
