"""A host of a site: its way to the internet, its LANs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from schema.desired.base import DnsName, Document, IfName, ListForm, Name, OneOrMany, one_of_each_family
from schema.desired.bond import Bond
from schema.desired.exits import Exit
from schema.desired.fabric import Port
from schema.ip import Interface
from schema.plan.exits import ExitName
from schema.plan.ranges import EXITS_PER_HOST

Short = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,10}$")]
"""What stands for a site or host in interface names, which have room for 15 bytes."""


def _endpoint(value: object) -> object:
    if isinstance(value, str) and not value.replace(".", "").isdigit() and ":" not in value:
        return value
    if isinstance(value, str):
        return Interface.parse(value)
    return value


Public = Annotated[Interface | DnsName, BeforeValidator(_endpoint)]


class Underlay(Document):
    """The interface that carries the tunnels. It is left alone unless `managed`."""

    interface: IfName | None = None
    bond: Bond | None = None
    """Several ports that are one interface, in place of `interface`."""
    addresses: tuple[Interface, ...] | Literal["dhcp"] = "dhcp"
    gateway: Annotated[OneOrMany[Interface], AfterValidator(one_of_each_family)] = ()
    """The default gateway, one for each family."""
    public: Annotated[OneOrMany[Public], AfterValidator(one_of_each_family)] = ()
    """Where others reach this host: addresses or a DNS name. By default its own addresses that are not private;
    with none of these it can only dial out."""
    mtu: int = Field(default=1500, ge=1280, le=65535)
    """A bond's members have it too."""
    managed: bool = False
    """Whether gitwan owns the bond, the addresses and the default route too."""

    @model_validator(mode="after")
    def _one_way(self) -> Underlay:
        if (self.bond is None) == (self.interface is None):
            raise ValueError("an underlay has either an `interface` or a `bond`")
        if self.managed and self.addresses == "dhcp":
            raise ValueError("an underlay with `managed: true` needs its addresses written out")
        return self

    @property
    def dev(self) -> str:
        """The interface that has the addresses."""
        return self.bond.name if self.bond else self.interface or ""


class Lan(ListForm):
    """A network of the site behind an interface of this host."""

    listed: ClassVar[str] = "addresses"

    addresses: tuple[Interface, ...]


class Host(Document):
    """One machine with an agent."""

    underlay: Underlay
    lans: dict[IfName, Lan] = Field(default_factory=dict)
    """LAN interfaces and the addresses that gitwan puts on them."""
    short: Short | None = None
    ports: dict[Literal["backbone", "clients"], Port] = Field(default_factory=dict)
    exits: Annotated[dict[ExitName, Exit], Field(max_length=EXITS_PER_HOST)] = Field(default_factory=dict)
    """Ways to the internet by VPN gateways; without any, gitwan leaves the internet to the underlay."""


Hosts = Annotated[dict[Name, Host], Field(min_length=1)]
