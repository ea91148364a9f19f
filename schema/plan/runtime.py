"""Settings of the agent itself that stand in the repository rather than on the host."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schema.plan.base import Address, IfName, Model, PublicKey
from schema.plan.nexthop import Nexthop
from schema.plan.route import Route

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


class Runtime(Model):
    """Everything is left out where the repository says nothing."""

    deadline: float | None = Field(default=None, gt=0)
    """Seconds."""
    probes: tuple[Probe, ...] | None = None
    takeovers: tuple[Takeover, ...] | None = None
