"""Prefixes behind one next hop, written as few prefixes."""

from __future__ import annotations

from collections.abc import Iterable

from schema.ip import BITS, Prefix


def summarise(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The fewest prefixes that cover exactly the same addresses, sorted."""
    result: list[Prefix] = []
    for prefix in sorted(set(prefixes)):
        if result and result[-1].covers(prefix):
            continue
        result.append(prefix)
        while len(result) > 1 and (parent := _parent(result[-2], result[-1])):
            result[-2:] = [parent]
    return result


def _parent(low: Prefix, high: Prefix) -> Prefix | None:
    """The prefix that is these two and nothing else."""
    if low[0] != high[0] or low[2] != high[2] or low[2] == 0:
        return None
    shift = BITS[low[0]] - low[2]
    if (low[1] >> shift) ^ (high[1] >> shift) != 1:
        return None
    return Prefix(low[0], low[1] >> (shift + 1) << (shift + 1), low[2] - 1)


def without(prefix: Prefix, hole: Prefix) -> list[Prefix]:
    """A prefix less one of its parts."""
    rest = []
    while prefix.length < hole.length:
        length = prefix.length + 1
        bit = 1 << (BITS[prefix.version] - length)
        low, high = Prefix(prefix.version, prefix.value, length), Prefix(prefix.version, prefix.value | bit, length)
        prefix, other = (low, high) if low.covers(hole) else (high, low)
        rest.append(other)
    return rest


def subtract(prefixes: Iterable[Prefix], holes: Iterable[Prefix]) -> list[Prefix]:
    """These prefixes less all of those."""
    left = list(prefixes)
    for hole in holes:
        kept: list[Prefix] = []
        for prefix in left:
            if hole.covers(prefix):
                continue
            kept += without(prefix, hole) if prefix.covers(hole) else [prefix]
        left = kept
    return left
