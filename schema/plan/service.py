"""Daemons that gitwan runs with a configuration of its own: VRRP and router advertisements towards a LAN, and names."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schema.plan.base import Disruption, Key, Model, Resource

Daemon = Literal["dnsmasq", "keepalived", "radvd"]
"""The programs that there are: a plan names one of a table, and never a command."""
RESTARTED: frozenset[Daemon] = frozenset({"dnsmasq"})
"""Those that read their configuration only when they start."""
FOLDER = "@folder@"
"""In a configuration or a file: the folder in which the files are, which only the host knows."""


class ServiceFile(Model):
    """A file that a configuration names as `@folder@/NAME`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    text: str

    def __str__(self) -> str:
        return self.name


class Service(Resource):
    """A daemon and all that it is told, in the words of its own configuration file."""

    rank: ClassVar[int] = 90

    kind: Literal["service"] = "service"
    name: Daemon
    config: str
    files: Annotated[tuple[ServiceFile, ...], Field(min_length=1)] | None = None
    """What the configuration refers to, sorted by name."""

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
        # A daemon that ends takes the virtual addresses with it, for which another host may or may not stand in.
        if after is None:
            return Disruption.RESETS
        restarts = before is not None and before != after and after.name in RESTARTED
        return Disruption.RESETS if restarts else Disruption.NONE
