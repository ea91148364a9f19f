"""Daemons that gitwan runs with a configuration of its own: VRRP and router advertisements towards a LAN."""

from __future__ import annotations

from typing import ClassVar, Literal

from schema.plan.base import Disruption, Key, Resource

Daemon = Literal["keepalived", "radvd"]


class Service(Resource):
    """A daemon and all that it is told, in the words of its own configuration file."""

    rank: ClassVar[int] = 90

    kind: Literal["service"] = "service"
    name: Daemon
    config: str

    @property
    def key(self) -> Key:
        return (self.name,)

    def describe(self) -> str:
        return f"{self.name} ({len(self.config.splitlines())} lines)"

    @classmethod
    def disruption(cls, before: Service | None, after: Service | None) -> Disruption:
        # A daemon that ends takes the virtual addresses with it, for which another host may or may not stand in.
        return Disruption.RESETS if after is None else Disruption.NONE
