"""Redundant gateways of a site: one is active, the others are on standby."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schema.desired.base import Duration, ListForm, Name
from schema.desired.fabric import Ip
from schema.plan.ranges import VRID


class Gateways(ListForm):
    """Redundant gateways: one host is active, the others are on standby. A list alone is the value of `hosts`."""

    listed: ClassVar[str] = "hosts"

    hosts: Annotated[tuple[Name, ...], Field(min_length=2, max_length=4)]
    """These hosts of the site are its gateways, in order of priority: the first healthy one is active."""
    virtual: tuple[Ip, ...] = ()
    """The active gateway holds these virtual addresses (VRRP). They are in LANs that all gateways share."""
    vrid: int = Field(default=VRID.first, ge=1, le=255)
    """VRRP uses this virtual router ID (RFC 5798). No other virtual router on these LANs may use it."""
    hold: Annotated[Duration, Field(ge=1.0, le=1000.0)] = 30.0
    """A gateway of higher priority that returns waits for this time before it takes over again, from 1s to 1000s."""
