"""What one exit is looked after with, and what reaches outside for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.base.web import Http
from reconciler.loops.exits.forwarding import Forwarding
from reconciler.loops.exits.memory import Kept, Memory
from reconciler.loops.exits.overlay import Placed
from reconciler.loops.exits.policy import ExitPolicy
from reconciler.loops.exits.prober import AskName, ResolveName
from reconciler.loops.exits.providers.base import Provider, ProviderError, Registration
from reconciler.loops.exits.tunnel import ExitTunnel
from schema.plan import Exit, SecretRef


@dataclass(frozen=True, slots=True)
class Tools:
    """What reaches outside."""

    provider: Callable[[Exit], Provider]
    measure: Callable[[int, Mapping[str, str]], Mapping[str, list[float | None]]]
    """The mark of what may leave beside the tunnels, and name -> address, to name -> round trips."""
    http: Http
    resolve: ResolveName
    ask_name: AskName
    first: Callable[[], None] = lambda: None
    """Called once, when there is an exit to look after."""


@dataclass(slots=True)
class Run:
    """An exit that is looked after."""

    policy: ExitPolicy
    memory: Memory
    provider: Provider
    key: SecretRef
    quiet: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Slot that drains -> since when how many bytes have passed."""
    kept: object = None
    forwarding: Forwarding = field(default_factory=Forwarding)
    unprobed: ProviderError | None = None
    """Why the last probe was not sent."""


def placed(policy: ExitPolicy) -> list[Placed]:
    """An exit's tunnels as the overlay has to know them."""
    carrying = {tunnel.slot for tunnel in policy.carrying}
    return [
        Placed(policy.exit.slots[slot], tunnel.session, slot in carrying)
        for slot, tunnel in sorted(policy.tunnels.items())
        if tunnel.session is not None
    ]


def remembered(policy: ExitPolicy, tunnel: ExitTunnel) -> Kept:
    """What is remembered of a tunnel that has a session."""
    assert tunnel.session is not None
    dev = policy.exit.slots[tunnel.slot].dev
    return Kept(dev, tunnel.session, tunnel.phase == "carrying", tunnel.pulse.baseline)


def end_of(session: Registration, now: float) -> float | None:
    """When a session does, on the clock of `now`."""
    return None if session.expires is None else now + session.expires - time.time()
