"""Settings of the agent that come from the repository, not from the host."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schema.plan.base import AddressText, KernelIfName, Model, PublicKey
from schema.plan.exits import Exit
from schema.plan.nexthop import Member, Nexthop
from schema.plan.route import Route
from schema.plan.service import Service

DEADLINE = 60.0
"""Default time in seconds for a change, from its start to its confirmation."""


class ProbeTarget(Model):
    """A target that must answer after a change if it answered before it."""

    kind: Literal["ping", "tcp", "http", "dns"]
    target: str
    """An address; `address:port`, `[address]:port` or `name:port`; a URL; or a DNS name, by `kind`."""
    server: AddressText | None = None
    """Only for dns: the server to ask. None: the system's resolver."""

    @property
    def text(self) -> str:
        return f"{self.kind} {self.target}" + (f" at {self.server}" if self.server else "")


class Takeover(Model):
    """Resources that replace the plan's resources with the same keys while a peer has a session.

    So traffic moves to a tunnel with a new key once both ends have it, in whatever order they poll.
    """

    dev: KernelIfName
    public_key: PublicKey
    resources: tuple[Annotated[Nexthop | Route, Field(discriminator="kind")], ...]


class WatchedTunnel(Model):
    """A tunnel of a link: its local device, and the public key of the far end."""

    dev: KernelIfName
    public_key: PublicKey


class Watch(Model):
    """The tunnels between this host and another one, and the settings for when a tunnel counts as dead."""

    name: str
    """The name of the link."""
    source: AddressText
    """Source and target of a probe inside each tunnel. They are link-local, so the answer returns through the same
    tunnel."""
    target: AddressText
    tunnels: tuple[WatchedTunnel, ...]
    size: int
    """The size of the largest packet that must pass, in bytes, including its IPv6 header."""
    interval: float
    """Seconds between two probes."""
    misses: int
    """A tunnel is dead after this number of probes in a row without an answer."""
    loss: float
    """The share of probes that may be lost, from 0 to 1."""
    hold: float
    """Seconds for which a dead tunnel must answer before it carries traffic again; longer after relapses."""
    backed: bool | None = None
    """Whether other links or the LAN replace this link while all of its tunnels are dead."""


class Standby(Model):
    """The members of a group while all members before them are dead: the first tier with a live tunnel is used."""

    id: int
    """The nexthop ID of the group."""
    tiers: tuple[tuple[Member, ...], ...]


class Lost(Model):
    """Resources that replace the plan's resources with the same keys while all of these tunnels are dead."""

    devs: tuple[KernelIfName, ...]
    resources: tuple[Annotated[Nexthop | Route | Service, Field(discriminator="kind")], ...]


class Rider(Model):
    """A tunnel over a bond, with the values that decide the leg of its packets."""

    dev: KernelIfName
    port: int
    far_port: int
    source: AddressText | None = None
    """The local address and the far one, if they are known."""
    target: AddressText | None = None


class WatchedBond(Model):
    """A bond that carries tunnels, whether gitwan or the operating system manages it."""

    name: KernelIfName
    mode: Literal["802.3ad", "active-backup", "balance-xor"]
    hash: Literal["layer2", "layer2+3", "layer3+4"] | None = None
    """The hash that decides the leg of a packet. None if only one leg is used at a time."""
    members: tuple[KernelIfName, ...]
    tunnels: tuple[Rider, ...]


class Runtime(Model):
    """A setting is None if the repository does not have it."""

    deadline: float | None = Field(default=None, gt=0)
    """Seconds for a change. None: `DEADLINE`."""
    probes: tuple[ProbeTarget, ...] | None = None
    takeovers: tuple[Takeover, ...] | None = None
    watches: tuple[Watch, ...] | None = None
    """The agent removes the nexthops of dead tunnels from their groups. If all are dead, the group keeps all of
    them."""
    standbys: tuple[Standby, ...] | None = None
    lost: tuple[Lost, ...] | None = None
    bonds: tuple[WatchedBond, ...] | None = None
    exits: tuple[Exit, ...] | None = None
