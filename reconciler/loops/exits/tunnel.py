"""The life of an exit's tunnel, and the actions for it. Pure."""

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
    """An action to carry out now. The policy is told its outcome."""

    verb: Literal["discover", "measure", "register", "renew", "probe"]
    slot: int = -1
    gateway: Gateway | None = None
    session: Registration | None = None
    gateways: tuple[Gateway, ...] = ()


@dataclass(slots=True)
class ExitTunnel:
    """One of an exit's devices, and its current use."""

    slot: int
    gateway: Gateway
    phase: Phase
    pulse: Pulse
    since: float
    """The start of its phase."""
    session: Registration | None = None
    asked: float | None = None
    """The send time of the unanswered probe."""
    next_probe: float = 0.0
    renewed: float = 0.0
    renewing: bool = False
    began: float = 0.0
    ends: float | None = None
    """The end of its session, if known."""

    def old(self, now: float) -> bool:
        """Whether its session ends soon."""
        return self.ends is not None and now > self.began + RENEW_EARLY * (self.ends - self.began)

    @property
    def up(self) -> bool:
        return self.session is not None


def server(gateway: Gateway) -> tuple[object, ...]:
    """The properties of a gateway that a tunnel depends on."""
    return gateway.addresses, gateway.port, gateway.public_key, gateway.server_name
