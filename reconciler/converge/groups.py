"""Computes the members of nexthop groups from the tunnels that are alive. Pure.

A dead tunnel is removed from its groups. A group whose tunnels are all dead uses the first standby tier that has a live
member. Without one it stays as planned, because nothing better is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.converge.diff import Observation, ResourceName
from reconciler.kinds.peer import is_fresh
from schema.plan import PROTOCOL, Key, Member, Nexthop, Resource, Runtime, Watch

KINDS = frozenset({"nexthop"})


def standing(runtime: Runtime, watch: Watch, observed: Observation) -> tuple[frozenset[str], frozenset[str]]:
    """Which tunnels of a link carry traffic before any probe, and which ones the last prober had removed.

    The first are the members of our groups in the kernel; if the kernel has no nexthop over these tunnels yet, those
    with a session. If all tunnels of a link are dead, its group may still be complete: then the substitutes of
    `runtime.lost` show that they are dead.
    """
    devs = {tunnel.dev for tunnel in watch.tunnels}
    ours = [one.resource for one in observed.get("nexthop", ()) if one.marker == PROTOCOL]
    by_id = {nexthop.id: nexthop.dev for nexthop in ours}
    known = devs.intersection(by_id.values())
    if not known:
        keys = {(tunnel.dev, tunnel.public_key) for tunnel in watch.tunnels}
        fresh = [one.resource for one in observed.get("peer", ()) if is_fresh(one)]
        return frozenset(peer.dev for peer in fresh if peer.key in keys), frozenset()
    members = {by_id.get(member.id) for nexthop in ours for member in nexthop.group}
    alive = frozenset(devs & members) - _given_up(runtime, observed)
    return alive, frozenset(known - alive)


def _given_up(runtime: Runtime, observed: Observation) -> set[str]:
    """The tunnels whose substitutes are already in place."""
    found: set[str] = set()
    for lost in runtime.lost or ():
        seen = {kind: {one.resource for one in observed.get(kind, ())} for kind in {one.kind for one in lost.resources}}
        if all(one in seen[one.kind] for one in lost.resources):
            found.update(lost.devs)
    return found


def moved(runtime: Runtime, nexthops: Mapping[Key, Resource], alive: frozenset[str]) -> dict[ResourceName, Resource]:
    """The replacements of nexthops and other resources of the plan while only the tunnels in `alive` are alive.

    Tunnels that the plan does not watch count as alive.
    """
    dead = {tunnel.dev for watch in runtime.watches or () for tunnel in watch.tunnels} - alive
    if not dead:
        return {}
    gone = {one.id for one in nexthops.values() if isinstance(one, Nexthop) and one.dev in dead}
    tiers = {standby.id: standby.tiers for standby in runtime.standbys or ()}
    found: dict[ResourceName, Resource] = {}
    for one in nexthops.values():
        if isinstance(one, Nexthop) and one.group:
            members = _first_alive((one.group, *tiers.get(one.id, ())), gone)
            if members and members != one.group:
                found[one.kind, one.key] = one.model_copy(update={"group": members})
    for lost in runtime.lost or ():
        if dead.issuperset(lost.devs):
            found.update(((one.kind, one.key), one) for one in lost.resources)
    return found


def _first_alive(tiers: Iterable[tuple[Member, ...]], dead: set[int]) -> tuple[Member, ...]:
    """The live members of the first tier that has any; empty if none has."""
    for tier in tiers:
        if members := tuple(member for member in tier if member.id not in dead):
            return members
    return ()


def kinds(runtime: Runtime) -> frozenset[str]:
    """The kinds of resource that change when a plan's tunnel dies or revives."""
    return KINDS | {one.kind for lost in runtime.lost or () for one in lost.resources}
