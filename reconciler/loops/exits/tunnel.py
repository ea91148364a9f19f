"""A tunnel of an exit in the course of its life, and what is to be done for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.loops.exits.health import Pulse
from reconciler.loops.exits.providers.base import Gateway, Registration

RENEW_EARLY = 0.8
"""The share of a session's life after which it is renewed."""
Phase = Literal["registering", "proving", "carrying", "draining"]


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do now, whose outcome is told."""

    verb: Literal["discover", "measure", "register", "renew", "probe"]
    slot: int = -1
    gateway: Gateway | None = None
    session: Registration | None = None
    gateways: tuple[Gateway, ...] = ()


@dataclass(slots=True)
class ExitTunnel:
    """One of an exit's devices, and what it is used for."""

    slot: int
    gateway: Gateway
    phase: Phase
    pulse: Pulse
    since: float
    """When its phase began."""
    session: Registration | None = None
    asked: float | None = None
    """When the probe was sent that is not answered yet."""
    next_probe: float = 0.0
    renewed: float = 0.0
    renewing: bool = False
    began: float = 0.0
    ends: float | None = None
    """When its session does, as far as that is known."""

    def old(self, now: float) -> bool:
        """Whether its session will end before long."""
        return self.ends is not None and now > self.began + RENEW_EARLY * (self.ends - self.began)

    @property
    def up(self) -> bool:
        return self.session is not None


def server(gateway: Gateway) -> tuple[object, ...]:
    """What a tunnel to a gateway depends on."""
    return gateway.addresses, gateway.port, gateway.public_key, gateway.server_name
