"""Summarises prefixes behind one next hop."""

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
    """The prefix that is exactly the union of these two; None if there is none."""
    if low[0] != high[0] or low[2] != high[2] or low[2] == 0:
        return None
    shift = BITS[low[0]] - low[2]
    if (low[1] >> shift) ^ (high[1] >> shift) != 1:
        return None
    return Prefix(low[0], low[1] >> (shift + 1) << (shift + 1), low[2] - 1)


def without(prefix: Prefix, hole: Prefix) -> list[Prefix]:
    """A prefix minus one of its parts."""
    rest = []
    while prefix.length < hole.length:
        length = prefix.length + 1
        bit = 1 << (BITS[prefix.version] - length)
        low, high = Prefix(prefix.version, prefix.value, length), Prefix(prefix.version, prefix.value | bit, length)
        prefix, other = (low, high) if low.covers(hole) else (high, low)
        rest.append(other)
    return rest


def subtract(prefixes: Iterable[Prefix], holes: Iterable[Prefix]) -> list[Prefix]:
    """The prefixes minus the holes."""
    left = list(prefixes)
    for hole in holes:
        kept: list[Prefix] = []
        for prefix in left:
            if hole.covers(prefix):
                continue
            kept += without(prefix, hole) if prefix.covers(hole) else [prefix]
        left = kept
    return left


LIMIT = 64
"""With more routes of one family on one host to one neighbour, a summary may cover more than necessary."""
PRIVATE = tuple(map(Prefix.parse, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")))


def condense(prefixes: list[Prefix], limit: int = LIMIT) -> list[Prefix]:
    """Cover these prefixes with at most about `limit` per family; if there are more, also cover some space between.

    Only private space (RFC 1918, RFC 4193) is widened, and only within its own block: traffic to unowned addresses
    there goes to the neighbour, which refuses it. Public prefixes stay unchanged.
    """
    result: list[Prefix] = []
    for version, bits in BITS.items():
        family = [prefix for prefix in prefixes if prefix.version == version]
        private = [p for p in family if any(space.covers(p) for space in PRIVATE)] if len(family) > limit else []
        if private:
            # The count falls with the length, so bisection finds the longest length that fits.
            low, high = 0, bits
            while low < high:
                middle = (low + high + 1) // 2
                if len({p.value >> bits - min(p.length, middle) for p in private}) <= limit:
                    low = middle
                else:
                    high = middle - 1
            wide = set(private)
            family = [p for p in family if p not in wide] + [_widened(p, low) for p in private]
        result += summarise(family)
    return result


def _widened(prefix: Prefix, length: int) -> Prefix:
    floor = next(space.length for space in PRIVATE if space.covers(prefix))
    length = min(prefix.length, max(length, floor))
    shift = BITS[prefix.version] - length
    return Prefix(prefix.version, prefix.value >> shift << shift, length)
