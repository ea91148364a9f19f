"""What has to wait: pauses that grow, and gateways that failed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.loops.exits.providers.base import Gateway, ProviderError

BACKOFF, LONGEST_BACKOFF = 5.0, 600.0
REMEMBERED = 600.0
"""Seconds for which a failure counts, at least, while something else is well."""
ACCOUNT = frozenset({"CredentialsRefused", "CredentialsUnreadable", "DeviceLimit", "NotPinned"})
"""What no other gateway of the provider would answer otherwise."""
EITHER = frozenset({"TokenExpired", "ClockWrong"})
"""What may be one gateway's fault: it is the account's, or this host's, where a second one says the same."""


@dataclass(slots=True)
class Pause:
    """What has to wait, each time for longer."""

    until: float = 0.0
    failures: int = 0
    longest: float = LONGEST_BACKOFF

    def fail(self, now: float, least: float | None = None) -> None:
        self.until = now + max(least or 0.0, min(self.longest, BACKOFF * 2.0**self.failures))
        self.failures += 1

    def over(self, now: float) -> bool:
        return now >= self.until


@dataclass(slots=True)
class Account:
    """Whose fault it is that a gateway refuses: its own, or that of the account, which waits as a whole."""

    pause: Pause = field(default_factory=Pause)
    _last: tuple[str, str] = "", ""
    """Who refused last, and for what reason."""

    def refused(self, gateway: str, error: ProviderError, now: float) -> bool:
        """Whether the gateway is surely not to blame."""
        (other, reason), self._last = self._last, (gateway, error.reason)
        sure = error.reason in ACCOUNT
        if sure or (error.reason in EITHER and error.reason == reason and gateway != other):
            self.pause.fail(now, error.retry_after if sure else None)
        return sure


@dataclass(slots=True)
class Cooling:
    """Gateways that failed: until when each is not taken where there is another, and whose turn it is."""

    _until: dict[str, float] = field(default_factory=dict)
    _barred: dict[str, float] = field(default_factory=dict)
    """Until when one does not want to be asked, whether there is another or not."""
    _failed: dict[str, float] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)

    def fail(
        self, gateway: str, now: float, seconds: float, *, barred: float | None = None, silent: bool = False
    ) -> None:
        """`barred`: seconds that the gateway itself has asked for. `silent`: it answered no echo before."""
        self._failed[gateway] = now
        (self._silent.add if silent else self._silent.discard)(gateway)
        self.rest(gateway, now, max(seconds, barred or 0.0))
        if barred is not None:
            self._barred[gateway] = now + barred

    def rest(self, gateway: str, now: float, seconds: float) -> None:
        """It is not to be taken for a while, but has not failed."""
        self._until[gateway] = max(self._until.get(gateway, 0.0), now + seconds)

    def cools(self, gateway: str, now: float) -> bool:
        return self._until.get(gateway, 0.0) > now

    def barred(self, gateway: str, now: float) -> bool:
        return self._barred.get(gateway, 0.0) > now

    def lift(self, gateway: str) -> None:
        """As if it had never failed."""
        for times in (self._until, self._barred, self._failed):
            times.pop(gateway, None)

    def answers(self, gateway: str) -> None:
        """One that answered no echo when it failed does now: it may have been away."""
        if gateway in self._silent:
            self._silent.discard(gateway)
            for times in (self._until, self._failed):
                times.pop(gateway, None)

    def unbar(self) -> None:
        """Somebody wants all to be asked, now."""
        self._barred.clear()

    def forget(self, before: float) -> None:
        """Older failures say nothing about whose turn it is."""
        if any(at < before for at in self._failed.values()):
            self._failed = {gateway: at for gateway, at in self._failed.items() if at >= before}

    def turn(self, gateways: Iterable[Gateway]) -> list[Gateway]:
        """Those that have not failed, else the one whose failure is longest ago.

        Otherwise the nearest few would be tried for ever, for a proof takes longer than a short cool-down.
        """
        there = list(gateways)
        first = min((self._failed.get(gateway.id, 0.0) for gateway in there), default=0.0)
        return [gateway for gateway in there if self._failed.get(gateway.id, 0.0) == first]
