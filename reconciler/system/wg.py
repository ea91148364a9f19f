"""The common model of WireGuard's two interfaces: a device's state, and what to set. No effects here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.kinds.base import Session
from reconciler.system.wg_key import NO_KEY
from schema.plan import Peer, SecretRef
from schema.plan.fingerprint import preshared_fingerprint

ALLOWED_IPS = 500
"""Maximum allowed IPs of one peer in one message; each takes 40 bytes in netlink, whose attributes have 64 KiB."""


@dataclass(slots=True)
class DeviceState:
    """A device as read. It contains the public key in place of the private one."""

    name: str
    public_key: str = ""
    """Empty if no private key is set."""
    listen_port: int = 0
    fwmark: int = 0
    peers: list[tuple[Peer, Session]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeviceSet:
    """What to set on a device; None leaves a field unchanged."""

    private_key: bytes | None = field(default=None, repr=False)
    listen_port: int | None = None
    fwmark: int | None = None


@dataclass(frozen=True, slots=True)
class PeerSet:
    """What to set on a peer; None leaves a field unchanged."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    """Do nothing if the peer is gone."""
    replace_allowed_ips: bool = False
    """Remove its present allowed IPs before adding these."""
    allowed_ips: Sequence[str] = ()
    endpoint: tuple[str, int] | None = None
    """A numeric address and a port."""
    keepalive: int | None = None
    preshared_key: bytes | None = field(default=None, repr=False)
    transient: bool = False
    """Remove it again in the same message, which must not be split: so at most ALLOWED_IPS prefixes."""

    @property
    def idle(self) -> bool:
        """Whether it would change nothing."""
        return self == PeerSet(self.public_key, update_only=True)


class Backend(Protocol):
    """One of WireGuard's two interfaces: the kernel's netlink family, or wireguard-go's socket."""

    def read(self, name: str) -> DeviceState:
        """Raises OSError, ENODEV if there is no such device."""
        ...

    def set_device(self, name: str, settings: DeviceSet) -> None:
        """Raises OSError."""
        ...

    def set_peers(self, name: str, peers: Sequence[PeerSet]) -> dict[int, OSError]:
        """Set peers in as few messages as possible. Returns the errors by the position of their peers."""
        ...

    def remember(self, name: str, peers: Iterable[Peer]) -> None:
        """Remember peers that were set. A later reading that is equal returns the same object and needs no memory."""
        ...


NEVER = Session(None, None)
"""The session of a peer that was never heard."""


class PeerMemory:
    """A device's peers as last read or set, so that an unchanged one needs a look-up and no memory."""

    def __init__(self) -> None:
        self._known: dict[str, Peer] = {}
        self._seen: dict[str, Peer] = {}

    def learn(self, peers: Iterable[Peer]) -> None:
        """Remember peers that were set, except those with a name for people, because peers are read without it."""
        self._known.update((peer.public_key, peer) for peer in peers if not peer.name)

    def peer(
        self, dev: str, public: str, preshared: bytes, endpoint: str | None, keepalive: int, allowed: list[str]
    ) -> Peer:
        """A peer, built without validation, because it comes from the kernel."""
        secret = preshared_fingerprint(preshared) if preshared and preshared != NO_KEY else None
        allowed.sort()
        ips = tuple(allowed)
        peer = self._known.get(public)
        if peer is None or (secret, endpoint, keepalive, ips) != (
            peer.preshared_key and peer.preshared_key.fingerprint, peer.endpoint, peer.keepalive, peer.allowed_ips
        ):  # fmt: skip
            reference = SecretRef(secret="preshared-key", fingerprint=secret) if secret else None
            peer = Peer.of(dev, public, ips, endpoint=endpoint, keepalive=keepalive, preshared_key=reference)
        self._seen[peer.public_key] = peer
        return peer

    def turn(self) -> None:
        """After a whole device was read, forget the peers that were not in it."""
        self._known, self._seen = self._seen, {}


def one_by_one(backend: Backend, name: str, peers: Sequence[PeerSet]) -> dict[int, OSError]:
    """Set each peer in its own message, to find out which of a refused group were refused."""
    errors: dict[int, OSError] = {}
    for position, peer in enumerate(peers):
        for error in backend.set_peers(name, [peer]).values():
            errors[position] = error
    return errors
