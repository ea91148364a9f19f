"""Hosts of a site that stand in for each other: one is active, the others wait."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schema.desired.base import Duration, ListForm, Name
from schema.desired.fabric import Ip
from schema.plan.ranges import VRID


class Gateways(ListForm):
    """A group of gateways. A list alone is its `hosts`."""

    listed: ClassVar[str] = "hosts"

    hosts: Annotated[tuple[Name, ...], Field(min_length=2, max_length=4)]
    """By priority: the first is active where it can be."""
    virtual: tuple[Ip, ...] = ()
    """Addresses on the LANs that all of them share, which the active one has (VRRP)."""
    vrid: int = Field(default=VRID.first, ge=1, le=255)
    """The virtual router's number (RFC 5798), which no other router on these LANs may use."""
    hold: Annotated[Duration, Field(ge=1.0, le=1000.0)] = 30.0
    """How long one with a better priority is back before it takes over again."""
