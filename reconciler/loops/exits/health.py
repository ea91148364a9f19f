"""Judges from probes whether a gateway in use is still fit. Pure.

As in smart-vpn-client, the first round trips through a new tunnel are its baseline. A strike is a probe without an
answer, or one after which the window's mean exceeds a multiple of the baseline; in this mean, each sample weighs e
times less than the next newer one. Consecutive strikes count. Further faults are a round trip above a fixed threshold,
loss, and an answer from another server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp
from statistics import median
from typing import Literal

from reconciler.kinds.peer import REJECT_AFTER
from schema.plan import HealthSettings

BASELINE = 3
"""The baseline is the median of this many round trips."""
Fault = Literal["", "Silent", "CaptivePortal", "Slow", "Lossy"]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe."""

    rtt: float | None
    """The round trip in seconds; None if no answer came in time."""
    genuine: bool = True
    """Whether the answer is from the server that was asked."""

    @property
    def good(self) -> bool:
        return self.rtt is not None and self.genuine


@dataclass(slots=True)
class Pulse:
    """One tunnel, probe by probe."""

    settings: HealthSettings
    baseline: float | None = None
    window: deque[float | None] = field(default_factory=deque)
    """Round trips, newest last; None for a failed probe."""
    strikes: int = 0
    misses: int = 0
    """Consecutive failed probes."""
    fault: Fault = ""
    """The fault of the last strike."""
    handshake: float | None = None
    """Seconds since the last handshake."""
    first: list[float] = field(default_factory=list)

    def note(self, answer: ProbeResult) -> None:
        """Record the result of a probe."""
        self.window.append(answer.rtt if answer.good else None)
        while len(self.window) > self.settings.window:
            self.window.popleft()
        self.misses = 0 if answer.good else self.misses + 1
        fault = self._fault(answer)
        self.strikes = self.strikes + 1 if fault else 0
        self.fault = fault
        if answer.good and self.baseline is None:
            assert answer.rtt is not None
            self.first.append(answer.rtt)
            if len(self.first) == BASELINE:
                self.baseline = median(self.first)

    def _fault(self, answer: ProbeResult) -> Fault:
        if answer.rtt is None:
            return "Silent"
        if not answer.genuine:
            return "CaptivePortal"
        if self.settings.threshold is not None and answer.rtt > self.settings.threshold:
            return "Slow"
        limit, mean = self.limit, self.mean
        if self.settings.factor is not None and limit is not None and mean is not None and mean > limit:
            return "Slow"
        return "Lossy" if self.loss > self.settings.loss and 2 * len(self.window) >= self.settings.window else ""

    @property
    def limit(self) -> float | None:
        """The mean or round trip, in seconds, above which the tunnel is too slow."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        if self.baseline is None or self.settings.factor is None:
            return None
        return self.baseline * self.settings.factor

    @property
    def mean(self) -> float | None:
        return weighted_mean([rtt for rtt in self.window if rtt is not None])

    @property
    def loss(self) -> float:
        return sum(rtt is None for rtt in self.window) / len(self.window) if self.window else 0.0

    @property
    def degraded(self) -> bool:
        return self.strikes >= self.settings.strikes

    @property
    def dead(self) -> bool:
        """Whether nothing is received any more."""
        gone = self.handshake is not None and self.handshake > REJECT_AFTER
        return self.misses >= self.settings.strikes or (gone and self.misses > 0)


def weighted_mean(samples: Sequence[float]) -> float | None:
    """Σ x e^(-i) / Σ e^(-i), where i is 0 for the newest sample, which is the last. None if there are no samples."""
    if not samples:
        return None
    weights = [exp(-i) for i in range(len(samples))]
    return sum(x * w for x, w in zip(reversed(samples), weights, strict=True)) / sum(weights)
