"""While a key is rotated: which tunnels of the new key have a session, and so carry the traffic already. Pure.

Both ends of a tunnel have it once there was a handshake, whichever of them polled first; so traffic may move then, at
each end by itself, and moves back where the session is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reconciler.converge.diff import ResourceName
from reconciler.kinds.base import Observed
from reconciler.kinds.peer import is_fresh
from schema.plan import Key, Resource, Runtime


def awaited(runtime: Runtime) -> frozenset[Key]:
    """The peers whose sessions decide, as keys of peers."""
    return frozenset((takeover.dev, takeover.public_key) for takeover in runtime.takeovers or ())


def up(peers: Iterable[Observed[Any] | None]) -> frozenset[Key]:
    """Those of these peers that have a session."""
    return frozenset(one.resource.key for one in peers if one is not None and is_fresh(one))


def moved(runtime: Runtime, sessions: frozenset[Key]) -> dict[ResourceName, Resource]:
    """What stands in the place of the plan's resources while these peers have a session."""
    return {
        (resource.kind, resource.key): resource
        for takeover in runtime.takeovers or ()
        if (takeover.dev, takeover.public_key) in sessions
        for resource in takeover.resources
    }
