"""`fabric.yaml`: the network's name, its pools of addresses, its defaults, and the links between sites."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from schema.desired.base import Document, Duration, Name
from schema.ip import Prefix

Port = Annotated[int, Field(ge=1, le=65535)]


class Pools(Document):
    """Where the addresses that nobody wrote come from, each for one or both families."""

    links: tuple[Prefix, ...] = (Prefix.parse("10.255.0.0/16"), Prefix.parse("fd00:255::/48"))
    """Each host's own address on all of its tunnels."""
    backbone: tuple[Prefix, ...] = (Prefix.parse("10.50.0.0/24"), Prefix.parse("fd00:50::/64"))
    """The same for the gateways of the backbone."""
    clients: tuple[Prefix, ...] = (Prefix.parse("10.51.0.0/16"), Prefix.parse("fd00:51::/64"))
    """Roaming clients."""


class Ports(Document):
    """UDP ports on which WireGuard listens unless a link says otherwise."""

    links: Port = 5000
    """The first one; each tunnel of a host takes the next that is free."""
    backbone: Port = 51821
    clients: Port = 51820


class Defaults(Document):
    """What a link takes when it does not say so itself."""

    keepalive: Duration = 10.0
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    """MTU of tunnels; by default what the underlays of both ends leave: 1420 on 1500."""
    ports: Ports = Ports()


class Link(Document):
    """A link between two sites (or two hosts), made of one or more WireGuard tunnels."""

    between: tuple[Name, Name]
    """Two names of sites or hosts; a site stands for its first host by name."""
    tunnels: int = Field(default=1, ge=1, le=256)
    keepalive: Duration | None = None
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    ports: dict[Name, tuple[Port, ...]] = Field(default_factory=dict)
    """Listening ports by end, one for each tunnel, where they are fixed."""


class Deny(Document):
    """New connections from one site or client to another are refused; all else may pass."""

    from_: Name = Field(alias="from")
    to: Name


class Fabric(Document):
    """`fabric.yaml`, once in a repository."""

    fabric: Name
    version: Literal[1]
    pools: Pools = Pools()
    defaults: Defaults = Defaults()
    links: tuple[Link, ...] = ()
    backbone: tuple[Name, ...] = ()
    """Sites or hosts that are meshed with one another over one device each."""
    deny: tuple[Deny, ...] = ()


def as_prefixes(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Prefixes = Annotated[tuple[Prefix, ...], BeforeValidator(as_prefixes)]
