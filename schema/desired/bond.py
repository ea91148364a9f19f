"""A bond: several ports that form one interface, towards one switch or a pair of switches."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from schema.desired.base import Duration, IfName, ListForm

Hash = Literal["layer2", "layer2+3", "layer3+4"]


def _milliseconds(value: float) -> float:
    if not 0.01 <= value <= 10 or value * 1000 != round(value * 1000):
        raise ValueError("`miimon` is between 10ms and 10s, in whole milliseconds")
    return value


class Bond(ListForm):
    """A bond combines several ports into one interface. Its options are those of the kernel's bonding driver.

    A list alone is the value of `members`.
    """

    listed: ClassVar[str] = "members"

    members: Annotated[tuple[IfName, ...], Field(min_length=1)]
    """The bond consists of these ports. The first one is leg 0, the second one leg 1, and so on."""
    name: IfName = "bond0"
    """This is the name of the bond's interface."""
    mode: Literal["802.3ad", "active-backup", "balance-xor"] = "802.3ad"
    """`802.3ad` is LACP, `balance-xor` a static group on the switch. `active-backup` uses one leg at a time."""
    hash: Hash | None = None
    """The bond selects the leg of a packet by a hash of these layers, by default `layer3+4`. Not for
    `active-backup`."""
    miimon: Annotated[Duration, AfterValidator(_milliseconds)] = 0.1
    """The kernel checks the carrier of each leg at this interval, from 10ms to 10s."""
    lacp_rate: Literal["slow", "fast"] | None = None
    """The switch is asked to send LACP every 30 seconds (`slow`, the default) or every second (`fast`). Only for
    `802.3ad`."""
    min_links: int = Field(default=0, ge=0, le=64)
    """The bond is down while fewer legs than this number are up."""
    primary: IfName | None = None
    """The bond uses this member whenever it is up. Only for `active-backup`."""

    @model_validator(mode="after")
    def _fits_its_mode(self) -> Bond:
        if len(set(self.members)) != len(self.members):
            raise ValueError("a bond has each of its `members` once")
        if self.lacp_rate is not None and self.mode != "802.3ad":
            raise ValueError(f"{self.mode} speaks no LACP: remove `lacp_rate`, or write `mode: 802.3ad`")
        if self.hash is not None and self.mode == "active-backup":
            raise ValueError("active-backup sends by one leg at a time: remove `hash`, or write another mode")
        if self.primary is not None and self.mode != "active-backup":
            raise ValueError(f"{self.mode} sends by all legs: remove `primary`, or write `mode: active-backup`")
        if self.primary is not None and self.primary not in self.members:
            raise ValueError(f"the primary {self.primary} is none of the bond's `members`")
        if self.min_links > len(self.members):
            raise ValueError(f"`min_links: {self.min_links}` is more than the bond has members: it would never be up")
        return self

    @property
    def policy(self) -> Hash | None:
        """The hash that spreads packets over legs; None if only one leg is used at a time."""
        return None if self.mode == "active-backup" else self.hash or "layer3+4"
