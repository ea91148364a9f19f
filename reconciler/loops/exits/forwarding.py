"""The port of a gateway that leads here, as far as it is known, and when it has to be asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.loops.exits.providers.base import PortForward, ProviderError

AGAIN = 60.0
"""Seconds after which a port is asked for again that was not given."""
LEAST = 10.0
"""Seconds between two times, whatever the provider says."""


@dataclass(slots=True)
class Forwarding:
    """Of one exit."""

    port: tuple[str, int] | None = None
    """A tunnel's device, and the port that leads to it."""
    trouble: ProviderError | None = None
    """Why there is none."""
    asking: bool = False
    _dev: str | None = None
    """By which tunnel it was asked for last."""
    _again: float = 0.0

    @property
    def number(self) -> int | None:
        return self.port[1] if self.port else None

    def due(self, dev: str | None, now: float) -> bool:
        """Whether it has to be asked for by this tunnel, which carries traffic: by another one it is another port."""
        if self._dev not in (None, dev):
            self.port, self.trouble, self._dev, self._again = None, None, None, 0.0
        return dev is not None and not self.asking and now >= self._again

    def given(self, dev: str, found: PortForward | None, now: float, date: float) -> None:
        """`date` is `now` in seconds since the epoch. None: the provider has none to give."""
        if found is None:
            self.refused(dev, ProviderError("PortRefused", "this gateway forwards no ports"), now)
            return
        self.asking, self._dev, self.port, self.trouble = False, dev, (dev, found.port), None
        self._again = now + max(LEAST, found.again - date)

    def refused(self, dev: str, error: ProviderError, now: float) -> None:
        self.asking, self._dev, self.port, self.trouble = False, dev, None, error
        self._again = now + AGAIN
