"""During a key rotation, decides which tunnels of the new key have a session and so carry the traffic. Pure.

After a handshake both ends have the tunnel, whichever polled first. So each end moves its traffic then on its own, and
moves it back if the session is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reconciler.converge.diff import ResourceName
from reconciler.kinds.base import Observed
from reconciler.kinds.peer import is_fresh
from schema.plan import Key, Resource, Runtime


def awaited(runtime: Runtime) -> frozenset[Key]:
    """The keys of the peers whose sessions decide."""
    return frozenset((takeover.dev, takeover.public_key) for takeover in runtime.takeovers or ())


def up(peers: Iterable[Observed[Any] | None]) -> frozenset[Key]:
    """The peers that have a session."""
    return frozenset(one.resource.key for one in peers if one is not None and is_fresh(one))


def moved(runtime: Runtime, sessions: frozenset[Key]) -> dict[ResourceName, Resource]:
    """The replacements of the plan's resources while these peers have a session."""
    return {
        (resource.kind, resource.key): resource
        for takeover in runtime.takeovers or ()
        if (takeover.dev, takeover.public_key) in sessions
        for resource in takeover.resources
    }
