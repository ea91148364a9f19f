"""A WireGuard peer, identified by its device and public key."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from schema.ip import Prefix
from schema.plan.base import Disruption, KernelIfName, Key, PublicKey, Resource, SecretRef
from schema.plan.base import PrefixText as PrefixText

Endpoint = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$")]
"""`address:port`, `[address]:port` or `name:port`."""


_FIELDS = {"kind", "dev", "public_key", "preshared_key", "endpoint", "allowed_ips", "keepalive", "name"}
"""All peers from `Peer.of` share this set. A set for each peer would be as large as the peer itself."""


class Peer(Resource):
    """A peer. The endpoint is its initial address. Roaming may change the address once a session is up."""

    rank: ClassVar[int] = 50

    kind: Literal["peer"] = "peer"
    dev: KernelIfName
    public_key: PublicKey
    preshared_key: SecretRef | None = None
    endpoint: Endpoint | None = None
    allowed_ips: tuple[PrefixText, ...] = ()
    """Sorted. Two peers of one device never have the same prefix: the kernel would silently move it to the last one."""
    keepalive: int = Field(default=0, ge=0, le=65535)
    """Seconds between two keepalives; 0 for none."""
    name: str = ""
    """The name of the peer, for people. The kernel does not store it, so it is never compared."""

    @classmethod
    def of(
        cls,
        dev: str,
        public_key: str,
        allowed_ips: tuple[str, ...] = (),
        *,
        endpoint: str | None = None,
        keepalive: int = 0,
        preshared_key: SecretRef | None = None,
        name: str = "",
    ) -> Peer:
        """A peer from valid values. There may be a hundred thousand of them, so nothing is validated."""
        return cls.model_construct(
            _FIELDS, kind="peer", dev=dev, public_key=public_key, preshared_key=preshared_key, endpoint=endpoint,
            allowed_ips=allowed_ips, keepalive=keepalive, name=name,
        )  # fmt: skip

    @property
    def key(self) -> Key:
        return (self.dev, self.public_key)

    @property
    def label(self) -> str:
        return f"{self.dev} {self.name or self.public_key}"

    def describe(self) -> str:
        words = [self.dev, self.name or f"{self.public_key[:8]}…"]
        if self.endpoint:
            words += ["endpoint", self.endpoint]
        ips = ",".join(self.allowed_ips[:3]) + (f",… ({len(self.allowed_ips)})" if len(self.allowed_ips) > 3 else "")
        words += ["allowed-ips", ips or "(none)"]
        if self.keepalive:
            words += ["keepalive", f"{self.keepalive}s"]
        return " ".join(words)

    def amended(self, gain: tuple[str, ...], lose: tuple[str, ...]) -> Peer:
        """With allowed IPs added and removed."""
        left = {*self.allowed_ips, *gain}.difference(lose)
        return self.model_copy(update={"allowed_ips": tuple(sorted(left))})

    @classmethod
    def disruption(cls, before: Peer | None, after: Peer | None) -> Disruption:
        if before is None:
            return Disruption.NONE
        if after is None or before.preshared_key != after.preshared_key:
            return Disruption.RESETS
        gone = set(before.allowed_ips) - set(after.allowed_ips)
        kept = [Prefix.parse(text) for text in after.allowed_ips] if gone else []
        if any(not any(prefix.covers(Prefix.parse(text)) for prefix in kept) for text in gone):
            return Disruption.RESETS
        return Disruption.NONE
