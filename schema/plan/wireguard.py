"""A WireGuard device: its key, port and mark. Its peers are separate resources (`peer.py`)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schema.plan.base import Disruption, KernelIfName, Key, Resource, SecretRef


class Wireguard(Resource):
    """The WireGuard settings of a link of type wireguard. The private key's fingerprint is its public key."""

    rank: ClassVar[int] = 30

    kind: Literal["wireguard"] = "wireguard"
    dev: KernelIfName
    private_key: SecretRef
    listen_port: int = Field(ge=1, le=65535)
    fwmark: int | None = None
    leg: int | None = None
    """The leg of the underlay's bond that this end sends by, according to the bond's hash. It is only shown to
    people."""

    @property
    def key(self) -> Key:
        return (self.dev,)

    def describe(self) -> str:
        mark = f" fwmark {self.fwmark:#x}" if self.fwmark else ""
        leg = "" if self.leg is None else f" leg {self.leg}"
        return f"{self.dev} port {self.listen_port} key {self.private_key.fingerprint[:8]}…{mark}{leg}"

    @property
    def exclusive(self) -> Key | None:
        return (self.listen_port,)

    @classmethod
    def disruption(cls, before: Wireguard | None, after: Wireguard | None) -> Disruption:
        if before is None or (after is not None and before.model_copy(update={"leg": after.leg}) == after):
            return Disruption.NONE
        return Disruption.RESETS
