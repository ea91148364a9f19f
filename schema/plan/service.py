"""Daemons that gitwan configures and runs: for VRRP, router advertisements and DNS on LANs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schema.plan.base import Disruption, Key, Model, Resource

Daemon = Literal["dnsmasq", "keepalived", "radvd"]
"""The supported daemons. A plan names a daemon from a table in the agent, and never a command."""
RESTARTED: frozenset[Daemon] = frozenset({"dnsmasq"})
"""Daemons that read their configuration only when they start."""
FOLDER = "@folder@"
"""A placeholder in a configuration or file: the folder of the files, which only the host knows."""


class ServiceFile(Model):
    """A file that a configuration names as `@folder@/NAME`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    text: str

    def __str__(self) -> str:
        return self.name


class Service(Resource):
    """A daemon with its configuration file and the files that it refers to."""

    rank: ClassVar[int] = 90

    kind: Literal["service"] = "service"
    name: Daemon
    config: str
    files: Annotated[tuple[ServiceFile, ...], Field(min_length=1)] | None = None
    """The files that the configuration refers to, sorted by name."""

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        names = [file.name for file in self.files or ()]
        if names != sorted(set(names)):
            raise ValueError("files are sorted by name, and each name stands there once")
        return self

    @property
    def key(self) -> Key:
        return (self.name,)

    def describe(self) -> str:
        more = f", {len(self.files)} file{'s' if len(self.files) > 1 else ''}" if self.files else ""
        return f"{self.name} ({len(self.config.splitlines())} lines{more})"

    @classmethod
    def disruption(cls, before: Service | None, after: Service | None) -> Disruption:
        # If the daemon ends, this host loses its virtual addresses. Another host may or may not take them over.
        if after is None:
            return Disruption.RESETS
        restarts = before is not None and before != after and after.name in RESTARTED
        return Disruption.RESETS if restarts else Disruption.NONE
