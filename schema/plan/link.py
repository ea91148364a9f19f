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
    lacp_rate: Literal["fast"] | None = None
    """How often the partner is asked to speak; None is slow."""
    min_links: int | None = None
    """The carrier is off where fewer members are up; None is 0."""
    primary: IfName | None = None

    @property
    def hashes(self) -> bool:
        """Whether packets are spread over the members."""
        return self.mode != "active-backup"

    def describe(self) -> str:
        words = ["mode", self.mode, *(("hash", self.xmit_hash_policy) if self.hashes else ())]
        words += ["miimon", str(self.miimon)]
        for name in ("lacp_rate", "min_links", "primary"):
            if (value := getattr(self, name)) is not None:
                words += [name, str(value)]
        return " ".join(words)


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
            words.append(self.bond.describe())
        return " ".join(words)

    @classmethod
    def disruption(cls, before: Link | None, after: Link | None) -> Disruption:
        if before is None:
            return Disruption.NONE
        if after is None or before.type != after.type:
            return Disruption.DROPS
        if before.bond and after.bond:
            return _bond_disruption(before, after, before.bond, after.bond)
        if set(before.members) - set(after.members):
            return Disruption.REORDERS
        return Disruption.NONE


def _bond_disruption(before: Link, after: Link, old: BondOptions, new: BondOptions) -> Disruption:
    """What drivers/net/bonding allows while the bond is up, and what becomes of the flows then.

    The mode takes a bond without members, the LACP rate one that is down (BOND_OPTFLAG_NOSLAVES and _IFDOWN in
    bond_options.c); an MTU goes to all members at once, and many a port restarts for it. The leg of a flow is its
    hash modulo the legs, so a leg more moves flows as a leg less does, without dropping any.
    """
    if (old.mode, old.lacp_rate, before.mtu) != (new.mode, new.lacp_rate, after.mtu):
        return Disruption.DROPS
    gone, come = set(before.members) - set(after.members), set(after.members) - set(before.members)
    moved = old.xmit_hash_policy != new.xmit_hash_policy or old.primary != new.primary
    return Disruption.REORDERS if gone or moved or (come and new.hashes) else Disruption.NONE
