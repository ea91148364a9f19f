"""Growing pauses, and the gateways that failed recently. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.loops.exits.providers.base import Gateway, ProviderError

BACKOFF, LONGEST_BACKOFF = 5.0, 600.0
REMEMBERED = 600.0
"""Minimum seconds for which a failure counts while other gateways are well."""
ACCOUNT = frozenset({"CredentialsRefused", "CredentialsUnreadable", "DeviceLimit", "NotPinned"})
"""Reasons for which every gateway of the provider would refuse."""
EITHER = frozenset({"TokenExpired", "ClockWrong"})
"""Reasons that may be one gateway's fault. If a second one gives the same, the account or this host is at fault."""


@dataclass(slots=True)
class Pause:
    """A pause that grows with each failure."""

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
    """Decides whether a refusal is the fault of a gateway or of the account, which then pauses as a whole."""

    pause: Pause = field(default_factory=Pause)
    _last: tuple[str, str] = "", ""
    """The gateway that refused last, and the reason."""

    def refused(self, gateway: str, error: ProviderError, now: float) -> bool:
        """Record a refusal. Returns whether the gateway is certainly not at fault."""
        (other, reason), self._last = self._last, (gateway, error.reason)
        sure = error.reason in ACCOUNT
        if sure or (error.reason in EITHER and error.reason == reason and gateway != other):
            self.pause.fail(now, error.retry_after if sure else None)
        return sure


@dataclass(slots=True)
class Cooling:
    """Failed gateways: how long each is avoided while there are others, and which one is tried next."""

    _until: dict[str, float] = field(default_factory=dict)
    _barred: dict[str, float] = field(default_factory=dict)
    """The time until which a gateway does not want to be asked, even if there is no other."""
    _failed: dict[str, float] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)

    def fail(
        self, gateway: str, now: float, seconds: float, *, barred: float | None = None, silent: bool = False
    ) -> None:
        """Record a failure. `barred`: seconds that the gateway asked for. `silent`: it answered no echo before."""
        self._failed[gateway] = now
        (self._silent.add if silent else self._silent.discard)(gateway)
        self.rest(gateway, now, max(seconds, barred or 0.0))
        if barred is not None:
            self._barred[gateway] = now + barred

    def rest(self, gateway: str, now: float, seconds: float) -> None:
        """Avoid a gateway for a while, without a failure."""
        self._until[gateway] = max(self._until.get(gateway, 0.0), now + seconds)

    def cools(self, gateway: str, now: float) -> bool:
        return self._until.get(gateway, 0.0) > now

    def barred(self, gateway: str, now: float) -> bool:
        return self._barred.get(gateway, 0.0) > now

    def lift(self, gateway: str) -> None:
        """Forget the failures of a gateway."""
        for times in (self._until, self._barred, self._failed):
            times.pop(gateway, None)

    def answers(self, gateway: str) -> None:
        """A gateway that answered no echo when it failed answers now: forget its failure, as it may have been down."""
        if gateway in self._silent:
            self._silent.discard(gateway)
            for times in (self._until, self._failed):
                times.pop(gateway, None)

    def unbar(self) -> None:
        """Allow all gateways to be asked, because a person wants it now."""
        self._barred.clear()

    def forget(self, before: float) -> None:
        """Forget failures before a time."""
        if any(at < before for at in self._failed.values()):
            self._failed = {gateway: at for gateway, at in self._failed.items() if at >= before}

    def turn(self, gateways: Iterable[Gateway]) -> list[Gateway]:
        """The gateways that have not failed; if all have, the one whose failure is the oldest.

        Without this, the nearest few would be tried forever, because a proof takes longer than a short cool-down.
        """
        there = list(gateways)
        first = min((self._failed.get(gateway.id, 0.0) for gateway in there), default=0.0)
        return [gateway for gateway in there if self._failed.get(gateway.id, 0.0) == first]
