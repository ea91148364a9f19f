"""Moves prefixes between peers of a WireGuard device without a gap: no other prefix is ever without a peer. Pure.

WireGuard gives a prefix at once to the last peer that claims it, without telling the former one. No message known to
every kernel removes a single prefix: setting a peer's list again empties it first, and packets for the remaining
prefixes are lost meanwhile. So a moving prefix is claimed by its new peer. A prefix without a new peer is claimed by a
parked peer, which is removed in the same message and takes the prefix with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from reconciler.system.wg import ALLOWED_IPS, PeerSet
from schema.plan import Change, Peer


def _parked() -> bytes:
    """A public key made by a hash, so that nobody can have its private key. Its topmost bit is unused."""
    key = bytearray(blake2b(b"gitwan: the parked peer", digest_size=32).digest())
    key[31] &= 0x7F
    return bytes(key)


PARKED = _parked()
"""The public key of the peer that takes prefixes away. A crash may leave it behind; then the next diff deletes it like
any other peer that no plan has."""


def gained(before: Peer | None, after: Peer) -> tuple[str, ...]:
    """The prefixes that a peer claims; all of its prefixes if it is new."""
    had = frozenset(before.allowed_ips) if before else frozenset()
    return tuple(prefix for prefix in after.allowed_ips if prefix not in had)


def freed(changes: Iterable[Change]) -> dict[str, Change]:
    """The prefixes that these changes of one device's peers leave without a peer, each with its change.

    The prefixes of a deleted peer are not included, because they are removed with the peer.
    """
    lost: dict[str, Change] = {}
    kept: set[str] = set()
    for change in changes:
        before, after = change.before, change.after
        if not isinstance(after, Peer):
            continue
        keeps = frozenset(after.allowed_ips)
        kept |= keeps
        if isinstance(before, Peer):
            lost.update((prefix, change) for prefix in before.allowed_ips if prefix not in keeps)
    return {prefix: change for prefix, change in lost.items() if prefix not in kept}


def parked(prefixes: Mapping[str, Change]) -> list[tuple[PeerSet, list[Change]]]:
    """The parked peers that take prefixes away, one per message part, with the changes that it carries out."""
    names = list(prefixes)
    found = []
    for start in range(0, len(names), ALLOWED_IPS):
        part = names[start : start + ALLOWED_IPS]
        carried = {id(prefixes[name]): prefixes[name] for name in part}
        found.append((PeerSet(PARKED, allowed_ips=part, transient=True), list(carried.values())))
    return found
