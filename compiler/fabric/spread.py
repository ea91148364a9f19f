"""Chooses ports that spread the tunnels of a link evenly over the legs of bonds.

After the loss of a leg, the hash is taken modulo one less, whichever leg it is. So ports that spread evenly over n legs
and over n - 1 legs suit both cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from schema.leg import Sender

SEARCHED = 1 << 16
"""Maximum number of port pairs tried; then the best one so far is used."""

Pair = tuple[int, int]
"""The ports of a tunnel's first and second end."""


class Spread:
    """The tunnels of one link so far, counted by leg in both directions, with all legs and with one less.

    An end is None if its packets are unknown, or if it has no bond that hashes ports.
    """

    def __init__(self, first: Sender | None, second: Sender | None, pairs: Iterable[Pair] = ()) -> None:
        self._ends = first, second
        # Complete bonds before those that lost a leg: today's balance matters more than a possible one.
        sizes = [(end, sender.legs - lost) for lost in (0, 1) for end, sender in enumerate(self._ends) if sender]
        self._counts = [(end, [0] * size) for end, size in sizes if size > 1]
        for pair in pairs:
            self.add(pair)

    def __bool__(self) -> bool:
        """Whether the choice of ports makes a difference."""
        return bool(self._counts)

    def add(self, pair: Pair) -> None:
        hashes = self._hashes(pair)
        for end, counts in self._counts:
            counts[hashes[end] % len(counts)] += 1

    def uneven(self) -> list[int]:
        """The difference between the fullest and the emptiest leg, for each count."""
        return [max(counts) - min(counts) for _, counts in self._counts]

    def choose(self, first: Sequence[int], second: Sequence[int]) -> Pair:
        """The pair from two lists of free ports that keeps the tunnels most even; the first one of equals."""
        floors = [min(counts) for _, counts in self._counts]
        best, least = (first[0], second[0]), [SEARCHED]
        for n, pair in enumerate(_pairs(first, second)):
            hashes = self._hashes(pair)
            ahead = [
                counts[hashes[end] % len(counts)] - floor
                for (end, counts), floor in zip(self._counts, floors, strict=True)
            ]
            if ahead < least:
                best, least = pair, ahead
            if not any(ahead) or n >= SEARCHED:
                break
        return best

    def _hashes(self, pair: Pair) -> Pair:
        """The hashes of a tunnel at both ends; 0 if unknown."""
        a, b = pair
        first, second = self._ends
        return (first.hash(a, b) if first else 0, second.hash(b, a) if second else 0)


def _pairs(first: Sequence[int], second: Sequence[int]) -> Iterator[Pair]:
    """All pairs, those of low positions in both lists first."""
    for far in range(max(len(first), len(second))):
        if far < len(second):
            for a in first[:far]:
                yield a, second[far]
        if far < len(first):
            for b in second[: far + 1]:
                yield first[far], b
