"""By which leg of a bond a tunnel leaves, as the kernel's `layer3+4` decides, and ports that spread tunnels evenly.

The hash is `bond_xmit_hash` of drivers/net/bonding/bond_main.c, on hosts whose integers are little-endian (x86, arm64):
ports and addresses are read as they lie in memory, in network order. Both ports go into it by exclusive or, so tunnels
whose ports rise together at both ends all leave by one leg.

A leg that is lost leaves the hash modulo one less, whichever leg it is: ports that spread evenly over n legs and over
n - 1 are good for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schema.ip import parse_address

SEARCHED = 1 << 16
"""Pairs of ports that are looked at before the best so far has to do."""

Pair = tuple[int, int]
"""The ports of a tunnel's first and second end."""


def _words(address: str) -> int:
    """An address folded to 32 bits as it lies in memory (`ipv6_addr_hash` of include/net/ipv6.h)."""
    version, value = parse_address(address)
    data = value.to_bytes(4 if version == 4 else 16, "big")
    folded = 0
    for start in range(0, len(data), 4):
        folded ^= int.from_bytes(data[start : start + 4], "little")
    return folded


@dataclass(frozen=True, slots=True)
class Sender:
    """One end of a link: a bond with so many legs, and the addresses of the packets that it sends."""

    legs: int
    folded: int
    """Both addresses, in 32 bits."""

    @classmethod
    def of(cls, source: str, destination: str, legs: int) -> Sender:
        """Addresses of one family, in text."""
        return cls(legs, _words(source) ^ _words(destination))

    def hash(self, source_port: int, destination_port: int) -> int:
        value = _swapped(source_port) | _swapped(destination_port) << 16
        value ^= self.folded
        value ^= value >> 16
        value ^= value >> 8
        return value >> 1

    def leg(self, source_port: int, destination_port: int) -> int:
        return self.hash(source_port, destination_port) % self.legs


def _swapped(port: int) -> int:
    """A port in network order, read by a little-endian host."""
    return port >> 8 | (port & 0xFF) << 8


class Spread:
    """The tunnels of one link so far, counted by leg in both directions, with all legs and with one less.

    An end is None where nothing is known of what it sends, or where it has no bond that hashes.
    """

    def __init__(self, first: Sender | None, second: Sender | None, pairs: Iterable[Pair] = ()) -> None:
        self._ends = first, second
        # Whole bonds before those that lost a leg: what is even today matters more than what may be.
        sizes = [(end, sender.legs - lost) for lost in (0, 1) for end, sender in enumerate(self._ends) if sender]
        self._counts = [(end, [0] * size) for end, size in sizes if size > 1]
        for pair in pairs:
            self.add(pair)

    def __bool__(self) -> bool:
        """Whether one port may be better than another."""
        return bool(self._counts)

    def add(self, pair: Pair) -> None:
        hashes = self._hashes(pair)
        for end, counts in self._counts:
            counts[hashes[end] % len(counts)] += 1

    def uneven(self) -> list[int]:
        """By how much the fullest leg is ahead of the emptiest, for each count."""
        return [max(counts) - min(counts) for _, counts in self._counts]

    def choose(self, first: Sequence[int], second: Sequence[int]) -> Pair:
        """The pair out of two rows of free ports that keeps the tunnels most even: of equals, the first."""
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
        """The hashes of a tunnel at both ends; 0 where nothing is known."""
        a, b = pair
        first, second = self._ends
        return (first.hash(a, b) if first else 0, second.hash(b, a) if second else 0)


def _pairs(first: Sequence[int], second: Sequence[int]) -> Iterator[Pair]:
    """All pairs, those of low positions in both rows first."""
    for far in range(max(len(first), len(second))):
        if far < len(second):
            for a in first[:far]:
                yield a, second[far]
        if far < len(first):
            for b in second[: far + 1]:
                yield first[far], b
