"""A provider's gateways and their latencies, and when to ask for either again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.loops.exits.cooling import BACKOFF, Pause
from reconciler.loops.exits.election import latency
from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.tunnel import Action, server

LIST_LIFE = 6 * 3600.0
"""Seconds after which the provider is asked for its gateways again."""
LIST_AGAIN = 60.0
"""Seconds between two lists while a gateway may have moved."""
FRESH = 30.0
"""Seconds for which a latency counts as new."""
UNTOLD = 120.0
"""Seconds after which a missing outcome is given up. A provider may take a minute, after other requests."""


@dataclass(slots=True)
class Directory:
    """The gateways of one exit. Times are in seconds of a monotonic clock."""

    gateways: dict[str, Gateway] = field(default_factory=dict)
    latencies: dict[str, float | None] = field(default_factory=dict)
    """Round trips outside the tunnels, in seconds; None if no echo was answered."""
    _listed: float | None = None
    _measured: float | None = None
    _doubted: bool = False
    """Whether a failure since the last list may be solved by a new one."""
    _pause: Pause = field(default_factory=Pause)
    _busy: dict[str, float] = field(default_factory=dict)
    """The actions under way, and their start times."""

    # Events

    def known(self, gateways: Iterable[Gateway]) -> None:
        """Use an earlier list until there is a new one."""
        self.gateways = {gateway.id: gateway for gateway in gateways}

    def discovered(self, gateways: Iterable[Gateway], now: float) -> list[str]:
        """Record a new list. Returns the names that now stand for another server, whose latency is unknown."""
        self._busy.pop("discover", None)
        before = self.gateways
        self.known(gateways)
        moved = [
            name
            for name, gateway in self.gateways.items()
            if name in before and server(before[name]) != server(gateway)
        ]
        for name in moved:
            self.latencies.pop(name, None)
            self._measured = None
        self._listed, self._pause, self._doubted = now, Pause(), False
        return moved

    def not_discovered(self, error: ProviderError, now: float) -> None:
        """Record that there is no new list."""
        self._busy.pop("discover", None)
        self._pause.fail(now, error.retry_after)

    def measured(self, samples: Mapping[str, Sequence[float | None]], now: float) -> list[str]:
        """Record new round trips. Returns the gateways that have answered."""
        self._busy.pop("measure", None)
        self._measured = now
        found = {name: latency(times) for name, times in samples.items()}
        self.latencies |= found
        self._doubted = self._doubted or all(seconds is None for seconds in found.values())
        return [name for name, seconds in found.items() if seconds is not None]

    def doubt(self) -> None:
        """Note that a gateway failed, so that a new list may be needed."""
        self._doubted = True

    def measure_again(self, now: float | None = None) -> None:
        """Declare the latencies old, at once or after a pause that begins `now`."""
        self._measured = None if now is None else now - max(self.age(now), FRESH - BACKOFF)

    def expire(self, now: float) -> None:
        """Give up actions whose outcome is overdue."""
        self._busy = {verb: since for verb, since in self._busy.items() if now - since <= UNTOLD}

    # State

    def age(self, now: float) -> float:
        """Seconds since the latencies were measured."""
        return LIST_LIFE if self._measured is None else now - self._measured

    def gone(self, name: str) -> bool:
        """Whether the provider's list no longer contains a gateway."""
        return self._listed is not None and name not in self.gateways

    # Actions

    def discover(self, now: float, *, doubted: bool) -> list[Action]:
        """Ask for a new list if it is due; sooner if the last one may be wrong."""
        life = LIST_AGAIN if doubted or self._doubted else LIST_LIFE
        old = self._listed is None or now - self._listed > life
        return self._start("discover", now) if old and self._pause.over(now) else []

    def measure(self, now: float, among: tuple[Gateway, ...]) -> list[Action]:
        """Measure these gateways, unless that is under way."""
        return self._start("measure", now, among) if among else []

    def _start(self, verb: Literal["discover", "measure"], now: float, among: tuple[Gateway, ...] = ()) -> list[Action]:
        if verb in self._busy:
            return []
        self._busy[verb] = now
        return [Action(verb, gateways=among)]
