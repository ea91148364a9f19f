"""Network interfaces that gitwan creates: WireGuard devices, bonds and bridges."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schema.plan.base import Disruption, KernelIfName, Key, Model, Resource


class BondOptions(Model):
    """Options of the bonding driver, in its own terms (Documentation/networking/bonding.rst)."""

    mode: Literal["802.3ad", "active-backup", "balance-xor"] = "802.3ad"
    xmit_hash_policy: Literal["layer2", "layer2+3", "layer3+4"] = "layer3+4"
    miimon: int = 100
    """Milliseconds between two checks of a member's carrier."""
    lacp_rate: Literal["fast"] | None = None
    """How often the partner is asked to send LACP. None means slow."""
    min_links: int | None = None
    """The carrier is off if fewer members are up. None means 0."""
    primary: KernelIfName | None = None

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
    """An interface that is up. `members` are the ports of a bond or bridge."""

    rank: ClassVar[int] = 10

    kind: Literal["link"] = "link"
    name: KernelIfName
    type: Literal["wireguard", "bond", "bridge"]
    mtu: int | None = Field(default=None, ge=576, le=65535)
    group: int | None = None
    """The interface group (IFLA_GROUP). Firewall rules match all our tunnels by it."""
    members: tuple[KernelIfName, ...] = ()
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
    """The disruption of a change of a bond, given what drivers/net/bonding allows while the bond is up.

    A change of the mode needs a bond without members, and a change of the LACP rate needs one that is down
    (BOND_OPTFLAG_NOSLAVES and _IFDOWN in bond_options.c). A new MTU applies to all members at once, and many ports
    restart for it. The leg of a flow is its hash modulo the number of legs. Adding or removing a leg therefore moves
    flows without dropping any.
    """
    if (old.mode, old.lacp_rate, before.mtu) != (new.mode, new.lacp_rate, after.mtu):
        return Disruption.DROPS
    gone, come = set(before.members) - set(after.members), set(after.members) - set(before.members)
    moved = old.xmit_hash_policy != new.xmit_hash_policy or old.primary != new.primary
    return Disruption.REORDERS if gone or moved or (come and new.hashes) else Disruption.NONE
