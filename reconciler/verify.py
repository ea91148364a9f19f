"""What to look at again after a change, and what to say when it did not come out. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence

from reconciler.errors import CycleError, Transient, Waiting
from reconciler.kinds.base import Failure
from schema.plan import Change

RESOLVE_AGAIN = 30.0
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


def unfinished(missing: Sequence[Change], failures: Sequence[Failure]) -> CycleError:
    """What to say, and do next, about what is still different after the last pass."""
    if not failures:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        text = f"still different after it was applied: {missing[0].describe()}{more}"
        return Transient("Applied", "Unstable", text)
    first = failures[0]
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    text = f"{first.change.describe()}: {first.message}{more}"
    if all(failure.errno == errno.EAGAIN for failure in failures):
        # A name that does not resolve right now is no fault of the commit.
        return Waiting("Applied", "Unresolved", text, RESOLVE_AGAIN)
    return Transient("Applied", "Refused", text)
