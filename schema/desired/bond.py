"""A bond: several ports towards one switch, or a pair of switches, that are one interface."""

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
    """The words of the kernel's bonding driver (Documentation/networking/bonding.rst). A list stands for `members`."""

    listed: ClassVar[str] = "members"

    members: Annotated[tuple[IfName, ...], Field(min_length=1)]
    """In the order in which they are taken: the first is leg 0."""
    name: IfName = "bond0"
    mode: Literal["802.3ad", "active-backup", "balance-xor"] = "802.3ad"
    hash: Hash | None = None
    """What decides which leg a packet leaves by: layer3+4. Not with active-backup, which has one leg at a time."""
    miimon: Annotated[Duration, AfterValidator(_milliseconds)] = 0.1
    """How often the carrier of each leg is looked at."""
    lacp_rate: Literal["slow", "fast"] | None = None
    """How often the switch is asked to speak LACP, with 802.3ad: every 30 s (slow, the default) or every second."""
    min_links: int = Field(default=0, ge=0, le=64)
    """The bond is down where fewer legs than this are up."""
    primary: IfName | None = None
    """With active-backup: the leg that is used whenever it is up."""

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
        """What packets are spread by; None where they all leave by one leg."""
        return None if self.mode == "active-backup" else self.hash or "layer3+4"
