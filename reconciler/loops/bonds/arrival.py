"""By which leg of a bond each tunnel arrives: the switch decides that, and tells nobody. Pure.

A leg's bytes are those of its tunnels and of others. So the tunnels are put on legs such that the least is left that
goes up and down on a leg without a tunnel that does the same; what is left and steady is somebody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Series = Sequence[float]
"""Bytes that came in between one look and the next."""
NOISE = 0.001
"""Of a leg's energy: what headers that the tunnels' counters leave out, and looks that are late, may make."""


@dataclass(frozen=True, slots=True)
class Arrival:
    leg: int
    confidence: float
    """From 0 (it may as well be another leg) to 1."""


def arrivals(legs: Sequence[Series], tunnels: Sequence[Series]) -> list[Arrival]:
    """The leg of each tunnel, from as many samples of each."""
    guess = _Guess(legs, tunnels)
    guess.improve()
    best = guess.cost
    floor = NOISE * max(_energy(leg) for leg in legs) or 1.0
    found = []
    for n, leg in enumerate(guess.place):
        gap = min((guess.cost_of(change) - best for change in guess.changes(n)), default=0.0)
        found.append(Arrival(leg, max(0.0, gap) / (max(0.0, gap) + best + floor)))
    return found


LegMoves = tuple[tuple[int, int], ...]
"""Tunnels and the legs that they move to."""


class _Guess:
    """Tunnels on legs, and what that leaves unexplained."""

    def __init__(self, legs: Sequence[Series], tunnels: Sequence[Series]) -> None:
        self.tunnels = tunnels
        self.rest = [list(leg) for leg in legs]
        """What a leg has beside its tunnels."""
        self.place = [-1] * len(tunnels)
        for n in sorted(range(len(tunnels)), key=lambda n: -sum(tunnels[n])):
            self.place[n] = min(range(len(legs)), key=lambda leg: _left(self._without(leg, n)) - _left(self.rest[leg]))
            self.rest[self.place[n]] = self._without(self.place[n], n)

    @property
    def cost(self) -> float:
        return sum(map(_left, self.rest))

    def improve(self) -> None:
        """Move one tunnel, or swap two, as long as that leaves less."""
        while True:
            every = [change for n in range(len(self.place)) for change in self.changes(n)]
            least = min(every, key=self.cost_of, default=None)
            if least is None or self.cost_of(least) >= self.cost * (1 - 1e-9):
                return
            self.rest = self._after(least)
            for n, leg in least:
                self.place[n] = leg

    def changes(self, n: int) -> list[LegMoves]:
        """What would put a tunnel on another leg."""
        own = self.place[n]
        moves: list[LegMoves] = [((n, leg),) for leg in range(len(self.rest)) if leg != own]
        return moves + [((n, leg), (m, own)) for m, leg in enumerate(self.place) if leg != own]

    def cost_of(self, change: LegMoves) -> float:
        return sum(map(_left, self._after(change)))

    def _after(self, change: LegMoves) -> list[list[float]]:
        rest = list(self.rest)
        for n, leg in change:
            series, own = self.tunnels[n], self.place[n]
            rest[own] = [have + took for have, took in zip(rest[own], series, strict=True)]
            rest[leg] = [have - took for have, took in zip(rest[leg], series, strict=True)]
        return rest

    def _without(self, leg: int, n: int) -> list[float]:
        return [have - took for have, took in zip(self.rest[leg], self.tunnels[n], strict=True)]


def _left(series: Series) -> float:
    """The energy of what is not steady; a leg cannot have brought less than nothing."""
    steady = max(0.0, sum(series) / len(series))
    return sum((value - steady) ** 2 for value in series)


def _energy(series: Series) -> float:
    return sum(value * value for value in series)
