"""What to look at again after a change, and what to say when it did not come out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler.kinds.base import Failure
from schema.plan import Change

CASCADES: Mapping[str, frozenset[str]] = {
    "wireguard": frozenset({"peer"}),
    "address": frozenset({"nexthop", "route"}),
    "nexthop": frozenset({"route"}),
    "sysctl": frozenset({"address", "nexthop", "route"}),
}
"""What may go or move with a kind. A link takes everything with it."""
COMPANIONS: Mapping[str, frozenset[str]] = {
    "wireguard": frozenset({"link"}),
    "peer": frozenset({"link"}),
}
"""What has to be seen beside a kind to know whose it is."""


def dependents(kinds: Iterable[str], every: frozenset[str]) -> frozenset[str]:
    """The kinds and all that a change of them may have moved."""
    found: set[str] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        if kind == "link":
            return every
        if kind not in found:
            found.add(kind)
            waiting += CASCADES.get(kind, ())
    return frozenset(found)


def companions(kinds: frozenset[str]) -> frozenset[str]:
    return kinds.union(*(COMPANIONS.get(kind, frozenset()) for kind in kinds))


def refusals(missing: Sequence[Change], failures: Sequence[Failure]) -> tuple[str, str]:
    """A reason and a sentence for what is still different after the last pass."""
    first = missing[0]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    if failures:
        refused = failures[0]
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return "Refused", f"{refused.change.describe()}: {refused.message}{others}"
    return "Unstable", f"still different after it was applied: {first.describe()}{more}"
