"""Settings of the agent itself that stand in the repository rather than on the host."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schema.plan.base import Address, IfName, Model, PublicKey
from schema.plan.exits import Exit
from schema.plan.nexthop import Member, Nexthop
from schema.plan.route import Route
from schema.plan.service import Service

DEADLINE = 60.0
"""Seconds that a change may take until it is confirmed, where nothing is written."""


class Probe(Model):
    """Something that has to answer after a change if it answered before it."""

    kind: Literal["ping", "tcp", "http", "dns"]
    target: str
    """An address; `address:port`, `[address]:port` or `name:port`; a URL; a DNS name."""
    server: Address | None = None
    """For dns: who is asked; the system's resolver where there is none."""

    @property
    def text(self) -> str:
        return f"{self.kind} {self.target}" + (f" at {self.server}" if self.server else "")


class Takeover(Model):
    """What stands in place of the plan's resources of the same keys while a peer has a session.

    So traffic moves to a tunnel with a new key when both ends have it, whichever polled first.
    """

    dev: IfName
    public_key: PublicKey
    resources: tuple[Annotated[Nexthop | Route, Field(discriminator="kind")], ...]


class Tunnel(Model):
    """A tunnel of a link: its device here, and the far end's key."""

    dev: IfName
    public_key: PublicKey


class Watch(Model):
    """The tunnels between this host and another one, and when one of them counts as dead."""

    name: str
    """The link's."""
    source: Address
    """The addresses of a probe inside any of them: link-local, so that the answer comes back by the same tunnel."""
    target: Address
    tunnels: tuple[Tunnel, ...]
    size: int
    """Bytes of the largest packet that has to pass, its IPv6 header included."""
    interval: float
    """Seconds between two probes."""
    misses: int
    """So many in a row without an answer, and the tunnel is dead."""
    loss: float
    """The share of probes that may be lost."""
    hold: float
    """Seconds for which a dead tunnel has to answer before it carries traffic again; more where it flaps."""
    backed: bool | None = None
    """Whether other links, or the LAN, stand in for this one while all of its tunnels are dead."""


class Standby(Model):
    """What a group has for members while all in front of them are dead: the first tier with a tunnel that is alive."""

    id: int
    """The group's nexthop id."""
    tiers: tuple[tuple[Member, ...], ...]


class Lost(Model):
    """What stands in place of the plan's resources of the same keys while none of these tunnels is alive."""

    devs: tuple[IfName, ...]
    resources: tuple[Annotated[Nexthop | Route | Service, Field(discriminator="kind")], ...]


class Rider(Model):
    """A tunnel over a bond, with what decides the legs of its packets."""

    dev: IfName
    port: int
    far_port: int
    source: Address | None = None
    """This end's address and the other's, where they are known."""
    target: Address | None = None


class Bond(Model):
    """A bond that carries tunnels, whoever sets it up."""

    name: IfName
    mode: Literal["802.3ad", "active-backup", "balance-xor"]
    hash: Literal["layer2", "layer2+3", "layer3+4"] | None = None
    """What decides the leg of a packet; None where there is one leg at a time."""
    members: tuple[IfName, ...]
    tunnels: tuple[Rider, ...]


class Runtime(Model):
    """Everything is left out where the repository says nothing."""

    deadline: float | None = Field(default=None, gt=0)
    """Seconds."""
    probes: tuple[Probe, ...] | None = None
    takeovers: tuple[Takeover, ...] | None = None
    watches: tuple[Watch, ...] | None = None
    """The nexthops of dead tunnels leave their groups. A group of which all are dead stays as the plan has it."""
    standbys: tuple[Standby, ...] | None = None
    lost: tuple[Lost, ...] | None = None
    bonds: tuple[Bond, ...] | None = None
    exits: tuple[Exit, ...] | None = None
