"""Settings of the agent itself that stand in the repository rather than on the host."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schema.plan.base import Address, Model

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


class Runtime(Model):
    """Everything is left out where the repository says nothing."""

    deadline: float | None = Field(default=None, gt=0)
    """Seconds."""
    probes: tuple[Probe, ...] | None = None
