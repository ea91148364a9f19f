"""How prefixes change hands on a WireGuard device without a gap: no other prefix is ever with nobody. Pure.

WireGuard gives a prefix to the last peer that claims it, at once, and tells nobody who had it before. It has no way
that every kernel knows to take a single prefix away: setting a peer's list anew empties the list first, and packets for
the prefixes that stay are lost meanwhile. So a prefix that goes to another peer is claimed by that peer, and one that
goes to nobody is claimed by a parked peer, which is removed in the same message and takes the prefix with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from reconciler.system.wg import ALLOWED_IPS, PeerSet
from schema.plan import Change, Peer


def _parked() -> bytes:
    """A public key that a hash chose, so that nobody can have the private key to it. Its topmost bit is unused."""
    key = bytearray(blake2b(b"gitwan: the parked peer", digest_size=32).digest())
    key[31] &= 0x7F
    return bytes(key)


PARKED = _parked()
"""The public key of the peer that takes prefixes away. One that a crash left behind is a peer like any other that no
plan has: the next diff deletes it."""


def gained(before: Peer | None, after: Peer) -> tuple[str, ...]:
    """The prefixes that a peer claims: all of them where it is new."""
    had = frozenset(before.allowed_ips) if before else frozenset()
    return tuple(prefix for prefix in after.allowed_ips if prefix not in had)


def freed(changes: Iterable[Change]) -> dict[str, Change]:
    """The prefixes that these changes of one device's peers leave to nobody, each with the change that gives it up.

    What a deleted peer has is not among them: it goes with the peer.
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
    """What takes prefixes away, each message's part with the changes that it carries out."""
    names = list(prefixes)
    found = []
    for start in range(0, len(names), ALLOWED_IPS):
        part = names[start : start + ALLOWED_IPS]
        carried = {id(prefixes[name]): prefixes[name] for name in part}
        found.append((PeerSet(PARKED, allowed_ips=part, transient=True), list(carried.values())))
    return found
