"""The forwarded port of an exit's gateway, and when to request it again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.loops.exits.providers.base import PortForward, ProviderError

AGAIN = 60.0
"""Seconds until a refused port is requested again."""
LEAST = 10.0
"""Minimum seconds between two requests, whatever the provider says."""


@dataclass(slots=True)
class Forwarding:
    """The forwarded port of one exit."""

    port: tuple[str, int] | None = None
    """A tunnel's device, and the port that leads to it."""
    trouble: ProviderError | None = None
    """The reason why there is no port."""
    asking: bool = False
    _dev: str | None = None
    """The tunnel of the last request."""
    _again: float = 0.0

    @property
    def number(self) -> int | None:
        return self.port[1] if self.port else None

    def due(self, dev: str | None, now: float) -> bool:
        """Whether to request the port through this tunnel, which carries traffic. Another tunnel means another port."""
        if self._dev not in (None, dev):
            self.port, self.trouble, self._dev, self._again = None, None, None, 0.0
        return dev is not None and not self.asking and now >= self._again

    def given(self, dev: str, found: PortForward | None, now: float, date: float) -> None:
        """Record an answer. `date` is `now` in seconds since the epoch. `found` is None if no ports are forwarded."""
        if found is None:
            self.refused(dev, ProviderError("PortRefused", "this gateway forwards no ports"), now)
            return
        self.asking, self._dev, self.port, self.trouble = False, dev, (dev, found.port), None
        self._again = now + max(LEAST, found.again - date)

    def refused(self, dev: str, error: ProviderError, now: float) -> None:
        self.asking, self._dev, self.port, self.trouble = False, dev, None, error
        self._again = now + AGAIN
