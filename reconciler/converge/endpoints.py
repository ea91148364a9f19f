"""Decides when to resolve a peer's DNS name again, and remembers where a peer without an endpoint was last seen. Pure.

A name is resolved when a peer is created. Once its sessions stop, the address behind the name may have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.kinds.base import Observed
from reconciler.kinds.peer import endpoint_parts, is_fresh, is_name
from schema.ip import endpoint_text
from schema.plan import Change, Key, Peer, Resource

PAUSE = 30.0
"""Seconds between two look-ups for one peer."""
PATIENCE = 180.0
"""Seconds that a new peer with an endpoint gets for its first handshake before its name is resolved again."""
SPARE = 256
"""Endpoints of deleted peers are forgotten above twice the number of present peers, plus this many."""


@dataclass(frozen=True, slots=True)
class NameLookup:
    """A DNS name to resolve, and its peer."""

    peer: Peer
    observed: Peer
    host: str
    port: int


class LookupSchedule:
    """Remembers when each peer was first seen and last looked up. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}

    def due(self, peers: Mapping[Key, Resource], observed: Iterable[Observed[Any]], now: float) -> list[NameLookup]:
        """The look-ups to make now; they are recorded as made."""
        lookups: list[NameLookup] = []
        seen: set[Key] = set()
        for one in observed:
            key = one.resource.key
            peer = peers.get(key)
            if not isinstance(peer, Peer) or peer.endpoint is None or not is_name(peer.endpoint) or is_fresh(one):
                continue
            seen.add(key)
            never = one.session is None or one.session.handshake_age is None
            first = now + PATIENCE if never and one.resource.endpoint else now
            if now >= self._due.setdefault(key, first):
                self._due[key] = now + PAUSE
                lookups.append(NameLookup(peer, one.resource, *endpoint_parts(peer.endpoint)))
        for key in self._due.keys() - seen:
            del self._due[key]
        return lookups


def decide(lookup: NameLookup, addresses: Sequence[str]) -> Change | None:
    """The change that sets the endpoint; None if the answer contains nothing new."""
    endpoints = [endpoint_text(address, lookup.port) for address in addresses]
    if not endpoints or lookup.observed.endpoint in endpoints:
        return None
    return Change(lookup.observed, lookup.observed.model_copy(update={"endpoint": endpoints[0]}))


class Heard:
    """Remembers the last endpoint of each peer. A re-created peer without a configured endpoint starts with that one.

    Otherwise a peer behind a NAT would keep using a session that this end has lost, for a quarter of a minute.
    """

    def __init__(self) -> None:
        self._endpoints: dict[Key, str] = {}

    def note(self, peers: Sequence[Observed[Any]]) -> None:
        """Record the current endpoints; old entries are removed from time to time."""
        now = {one.resource.key: one.resource.endpoint for one in peers if one.resource.endpoint}
        self._endpoints |= now
        if len(self._endpoints) > 2 * len(now) + SPARE:
            self._endpoints = now

    def recall(self, changes: Iterable[Change]) -> list[Change]:
        """The changes, with the remembered endpoint for each new peer that has none."""
        return [self._recall(change) for change in changes]

    def _recall(self, change: Change) -> Change:
        after = change.after
        if change.before is not None or not isinstance(after, Peer) or after.endpoint is not None:
            return change
        endpoint = self._endpoints.get(after.key)
        return Change(None, after.model_copy(update={"endpoint": endpoint})) if endpoint else change
