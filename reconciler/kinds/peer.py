"""WireGuard peers: ours by the alias of their link. An endpoint that moved by roaming is no drift."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.kinds.base import ALIAS, Kind, Observed
from schema.plan import Peer, Resource

REJECT_AFTER = 180.0
"""Seconds after which a session is dead: WireGuard's REJECT_AFTER_TIME."""

_NUMERIC = re.compile(r"^(\[[0-9a-f:]+\]|[0-9.]+):\d+$")


def endpoint_parts(endpoint: str) -> tuple[str, int]:
    """Split `address:port`, `[address]:port` or `name:port` into host and port."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def is_name(endpoint: str) -> bool:
    """Whether the host of an endpoint is a DNS name, not an address."""
    return _NUMERIC.match(endpoint) is None


def is_fresh(observed: Observed[Resource]) -> bool:
    """Whether a session is up: its handshake is less than 180 seconds old."""
    session = observed.session
    return session is not None and session.handshake_age is not None and session.handshake_age < REJECT_AFTER


def endpoint_stale(observed: Observed[Resource], desired: Resource) -> bool:
    """Whether the plan has an endpoint but no session is up. Then resolve a name again, or set an address again."""
    return isinstance(desired, Peer) and desired.endpoint is not None and not is_fresh(observed)


def endpoint_settled(observed: Observed[Resource], desired: Peer, previous: Resource | None) -> bool:
    """Whether the observed endpoint may stay.

    An endpoint that the plan has just changed must be set. Otherwise a live session may have roamed; and what a name
    resolves to, or whether it resolves, is not known here. That is never drift: `endpoints.py` decides when to resolve.
    """
    found = observed.resource
    assert isinstance(found, Peer)
    if desired.endpoint is None or found.endpoint == desired.endpoint:
        return True
    if isinstance(previous, Peer) and previous.endpoint != desired.endpoint:
        return False
    if is_name(desired.endpoint):
        return True
    return is_fresh(observed)


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    """Compares everything except the name for people; a preshared key by its fingerprint; the endpoint as above."""
    found = observed.resource
    if not (isinstance(found, Peer) and isinstance(desired, Peer)):
        return False
    return (
        found.keepalive == desired.keepalive
        and _fingerprint(found) == _fingerprint(desired)
        and (found.allowed_ips == desired.allowed_ips or set(found.allowed_ips) == set(desired.allowed_ips))
        and endpoint_settled(observed, desired, previous)
    )


def aim(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> Resource:
    """The desired peer, but with the observed endpoint if it may stay, so that other changes do not undo roaming."""
    found = observed.resource
    if not (isinstance(found, Peer) and isinstance(desired, Peer)):
        return desired
    if found.endpoint == desired.endpoint or not endpoint_settled(observed, desired, previous):
        return desired
    return desired.model_copy(update={"endpoint": found.endpoint})


def _fingerprint(peer: Peer) -> str | None:
    return peer.preshared_key.fingerprint if peer.preshared_key else None


def claims(peer: Resource) -> Iterable[tuple[str, str]]:
    """The kernel silently gives an allowed IP to the last peer of a device that claims it."""
    assert isinstance(peer, Peer)
    return [(peer.dev, prefix) for prefix in peer.allowed_ips]


KIND = Kind(
    name="peer",
    marker=ALIAS,
    stands_on=frozenset({"link", "wireguard"}),
    announced_by="nobody",
    part_of="link",
    dumped_by="device",
    satisfies=satisfies,
    aim=aim,
    claims=claims,
)
