"""Network interfaces that gitwan creates: WireGuard devices, bonds and bridges."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schema.plan.base import Disruption, IfName, Key, Model, Resource


class BondOptions(Model):
    """The bonding driver's options, in its own words (Documentation/networking/bonding.rst)."""

    mode: Literal["802.3ad", "active-backup", "balance-xor"] = "802.3ad"
    xmit_hash_policy: Literal["layer2", "layer2+3", "layer3+4"] = "layer3+4"
    miimon: int = 100
    """Milliseconds between two looks at a member's carrier."""


class Link(Resource):
    """An interface, up. `members` are enslaved to a bond or bridge."""

    rank: ClassVar[int] = 10

    kind: Literal["link"] = "link"
    name: IfName
    type: Literal["wireguard", "bond", "bridge"]
    mtu: int | None = Field(default=None, ge=576, le=65535)
    group: int | None = None
    """The interface group (IFLA_GROUP), by which firewall rules name all our tunnels at once."""
    members: tuple[IfName, ...] = ()
    bond: BondOptions | None = None

    @property
    def key(self) -> Key:
        return (self.name,)

    def describe(self) -> str:
        words = [self.name, "type", self.type]
        if self.mtu:
            words += ["mtu", str(self.mtu)]
        if self.group is not None:
            words += ["group", str(self.group)]
        if self.members:
            words += ["members", ",".join(self.members)]
        if self.bond:
            words += ["mode", self.bond.mode, "hash", self.bond.xmit_hash_policy]
        return " ".join(words)

    @classmethod
    def disruption(cls, before: Link | None, after: Link | None) -> Disruption:
        if before is None:
            return Disruption.NONE
        if after is None or before.type != after.type:
            return Disruption.DROPS
        if before.bond and after.bond and before.bond.mode != after.bond.mode:
            return Disruption.DROPS
        if set(before.members) - set(after.members):
            return Disruption.REORDERS
        return Disruption.NONE
