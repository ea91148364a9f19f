"""Estimates the leg of a bond on which each tunnel arrives, because the switch decides that and tells nobody. Pure.

A leg's bytes are those of its tunnels and of other traffic. So the tunnels are assigned to legs such that the least
variation of a leg remains without a tunnel that varies likewise; the steady remainder is other traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Series = Sequence[float]
"""Bytes received between two readings."""
NOISE = 0.001
"""The share of a leg's energy that uncounted headers and late readings may cause."""


@dataclass(frozen=True, slots=True)
class Arrival:
    leg: int
    confidence: float
    """From 0 (it may be any other leg) to 1."""


def arrivals(legs: Sequence[Series], tunnels: Sequence[Series]) -> list[Arrival]:
    """The leg of each tunnel, from equally many samples of each."""
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
    """An assignment of tunnels to legs, and the traffic that it leaves unexplained."""

    def __init__(self, legs: Sequence[Series], tunnels: Sequence[Series]) -> None:
        self.tunnels = tunnels
        self.rest = [list(leg) for leg in legs]
        """The traffic of each leg that its tunnels do not explain."""
        self.place = [-1] * len(tunnels)
        for n in sorted(range(len(tunnels)), key=lambda n: -sum(tunnels[n])):
            self.place[n] = min(range(len(legs)), key=lambda leg: _left(self._without(leg, n)) - _left(self.rest[leg]))
            self.rest[self.place[n]] = self._without(self.place[n], n)

    @property
    def cost(self) -> float:
        return sum(map(_left, self.rest))

    def improve(self) -> None:
        """Move one tunnel or swap two, as long as that leaves less unexplained."""
        while True:
            every = [change for n in range(len(self.place)) for change in self.changes(n)]
            least = min(every, key=self.cost_of, default=None)
            if least is None or self.cost_of(least) >= self.cost * (1 - 1e-9):
                return
            self.rest = self._after(least)
            for n, leg in least:
                self.place[n] = leg

    def changes(self, n: int) -> list[LegMoves]:
        """The changes that would put a tunnel on another leg."""
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
    """The energy of the varying part; a leg's steady part cannot be negative."""
    steady = max(0.0, sum(series) / len(series))
    return sum((value - steady) ** 2 for value in series)


def _energy(series: Series) -> float:
    return sum(value * value for value in series)
