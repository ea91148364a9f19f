"""While a key is rotated: which tunnels of the new key have a session, and so carry the traffic already. Pure.

Both ends of a tunnel have it once there was a handshake, whichever of them polled first; so traffic may move then, at
each end by itself, and moves back where the session is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.diff import Observation
from reconciler.kinds.peer import is_fresh
from schema.plan import HostPlan, Key, Resource

KINDS = frozenset({"nexthop", "route"})
"""What a takeover moves."""


def awaited(plan: HostPlan) -> frozenset[Key]:
    """The peers whose sessions decide, as keys of peers."""
    return frozenset((takeover.dev, takeover.public_key) for takeover in plan.runtime.takeovers or ())


def up(peers: Iterable[Key], observed: Observation) -> frozenset[Key]:
    """Those of these peers that have a session."""
    if not peers:
        return frozenset()
    fresh = {one.resource.key for one in observed.get("peer", ()) if is_fresh(one)}
    return frozenset(fresh.intersection(peers))


def resources(plan: HostPlan, sessions: frozenset[Key]) -> Sequence[Resource]:
    """The plan's resources, with what is taken over in its place."""
    if not plan.runtime.takeovers:
        return plan.resources
    moved: dict[tuple[str, Key], Resource] = {
        (resource.kind, resource.key): resource
        for takeover in plan.runtime.takeovers
        if (takeover.dev, takeover.public_key) in sessions
        for resource in takeover.resources
    }
    return [moved.get((resource.kind, resource.key), resource) for resource in plan.resources]
