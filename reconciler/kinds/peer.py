"""WireGuard peers: ours by the alias of their link. Roaming may move an endpoint, and that is no drift."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.kinds.base import ALIAS, Kind, Observed
from schema.plan import Peer, Resource

REJECT_AFTER = 180.0
"""Seconds after which a session is dead: WireGuard's REJECT_AFTER_TIME."""

_NUMERIC = re.compile(r"^(\[[0-9a-f:]+\]|[0-9.]+):\d+$")


def endpoint_parts(endpoint: str) -> tuple[str, int]:
    """`address:port`, `[address]:port` or `name:port` in two."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def is_name(endpoint: str) -> bool:
    """Whether the host of an endpoint is a DNS name rather than an address."""
    return _NUMERIC.match(endpoint) is None


def is_fresh(observed: Observed[Resource]) -> bool:
    """Whether a session is up: a handshake less than 180 seconds ago."""
    session = observed.session
    return session is not None and session.handshake_age is not None and session.handshake_age < REJECT_AFTER


def endpoint_stale(observed: Observed[Resource], desired: Resource) -> bool:
    """Whether the plan has an endpoint and no session is up: a name should be resolved anew, an address set again."""
    return isinstance(desired, Peer) and desired.endpoint is not None and not is_fresh(observed)


def endpoint_settled(observed: Observed[Resource], desired: Peer, previous: Resource | None) -> bool:
    """Whether the observed endpoint may stay.

    One that the plan has just changed must be set. Otherwise a session that is up may have roamed, and what a name
    stands for is not known here, nor whether it can be resolved now: that is never drift, and `endpoints.py` says
    when to resolve anew.
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
    """Everything but the name for people; a preshared key by its fingerprint; the endpoint as above."""
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
    """The desired peer, with the observed endpoint where that may stay: a change elsewhere must not undo roaming."""
    found = observed.resource
    if not (isinstance(found, Peer) and isinstance(desired, Peer)):
        return desired
    if found.endpoint == desired.endpoint or not endpoint_settled(observed, desired, previous):
        return desired
    return desired.model_copy(update={"endpoint": found.endpoint})


def _fingerprint(peer: Peer) -> str | None:
    return peer.preshared_key.fingerprint if peer.preshared_key else None


def claims(peer: Resource) -> Iterable[tuple[str, str]]:
    """The kernel gives an allowed IP to the last peer of a device that claims it, and tells nobody."""
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
