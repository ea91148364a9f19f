"""A host of a site: its underlay, its LANs and its exits."""

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
"""A short name of a site or host for interface names, which have at most 15 bytes."""


def _endpoint(value: object) -> object:
    if isinstance(value, str) and not value.replace(".", "").isdigit() and ":" not in value:
        return value
    if isinstance(value, str):
        return Interface.parse(value)
    return value


Public = Annotated[Interface | DnsName, BeforeValidator(_endpoint)]


class Underlay(Document):
    """The underlay is the interface that carries the tunnels. gitwan does not change it unless `managed: true`."""

    interface: IfName | None = None
    """The tunnels leave by this interface. Write either `interface` or `bond`."""
    bond: Bond | None = None
    """The tunnels leave by this bond of several ports. Write either `interface` or `bond`."""
    addresses: tuple[Interface, ...] | Literal["dhcp"] = "dhcp"
    """These are the addresses of the interface with their prefix lengths, such as 203.0.113.10/24, or `dhcp`."""
    gateway: Annotated[OneOrMany[Interface], AfterValidator(one_of_each_family)] = ()
    """This is the default gateway, one address for each family."""
    public: Annotated[OneOrMany[Public], AfterValidator(one_of_each_family)] = ()
    """Other hosts reach this host at these addresses, or at this DNS name. By default they use its own public
    addresses. A host without a public address can only dial out."""
    mtu: int = Field(default=1500, ge=1280, le=65535)
    """This is the MTU of the interface in bytes. The members of a bond have the same MTU."""
    managed: bool = False
    """If true, gitwan sets up the bond, the addresses and the default route. If false, the operating system does."""

    @model_validator(mode="after")
    def _one_way(self) -> Underlay:
        if (self.bond is None) == (self.interface is None):
            raise ValueError("an underlay has either an `interface` or a `bond`")
        if self.managed and self.addresses == "dhcp":
            raise ValueError("an underlay with `managed: true` needs its addresses written out")
        return self

    @property
    def dev(self) -> str:
        """The name of the interface that has the addresses."""
        return self.bond.name if self.bond else self.interface or ""


class Lan(ListForm):
    """A LAN of the site, behind an interface of this host. A list alone is the value of `addresses`."""

    listed: ClassVar[str] = "addresses"

    addresses: tuple[Interface, ...]
    """gitwan puts these addresses on the interface. Write the prefix length of the LAN, such as 10.10.0.1/16."""


class Host(Document):
    """A host is a machine that runs the agent."""

    underlay: Underlay
    """The tunnels of the host run over this interface or bond."""
    lans: dict[IfName, Lan] = Field(default_factory=dict)
    """Interface of a LAN -> the addresses of this host in it. The operating system brings the interface up."""
    short: Short | None = None
    """Interface names of tunnels contain this short name in place of the host's name. They have at most 15 bytes."""
    ports: dict[Literal["backbone", "clients"], Port] = Field(default_factory=dict)
    """WireGuard listens on these UDP ports for the backbone and for roaming clients. By default `defaults.ports`
    applies."""
    exits: Annotated[dict[ExitName, Exit], Field(max_length=EXITS_PER_HOST)] = Field(default_factory=dict)
    """Each exit sends traffic to the internet through VPN gateways. Without exits it leaves by the underlay as
    usual."""


Hosts = Annotated[dict[Name, Host], Field(min_length=1)]
