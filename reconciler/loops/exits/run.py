"""The objects that manage one exit, and their effects."""

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
    """The effects."""

    provider: Callable[[Exit], Provider]
    measure: Callable[[int, Mapping[str, str]], Mapping[str, list[float | None]]]
    """Measures gateways: takes the bypass mark and name -> address, returns name -> round trips in seconds."""
    http: Http
    resolve: ResolveName
    ask_name: AskName
    first: Callable[[], None] = lambda: None
    """Called once, when there is an exit to manage."""


@dataclass(slots=True)
class Run:
    """A managed exit."""

    policy: ExitPolicy
    memory: Memory
    provider: Provider
    key: SecretRef
    quiet: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Draining slot -> a time, and the bytes that had passed by then."""
    kept: object = None
    forwarding: Forwarding = field(default_factory=Forwarding)
    unprobed: ProviderError | None = None
    """The reason why the last probe was not sent."""


def placed(policy: ExitPolicy) -> list[Placed]:
    """An exit's tunnels in the form that the overlay needs."""
    carrying = {tunnel.slot for tunnel in policy.carrying}
    return [
        Placed(policy.exit.slots[slot], tunnel.session, slot in carrying)
        for slot, tunnel in sorted(policy.tunnels.items())
        if tunnel.session is not None
    ]


def remembered(policy: ExitPolicy, tunnel: ExitTunnel) -> Kept:
    """The stored form of a tunnel with a session."""
    assert tunnel.session is not None
    dev = policy.exit.slots[tunnel.slot].dev
    return Kept(dev, tunnel.session, tunnel.phase == "carrying", tunnel.pulse.baseline)


def end_of(session: Registration, now: float) -> float | None:
    """The end of a session, on the clock of `now`; None if unknown."""
    return None if session.expires is None else now + session.expires - time.time()
