"""Decides which tunnels of a link are alive, by a probe inside each."""

from __future__ import annotations

from reconciler.loops.base import Ground, Loop, Plug


def _make(ground: Ground) -> Loop:
    from reconciler.loops.health.loop import HealthLoop
    from reconciler.system.echo import Echo

    return HealthLoop(ground, Echo)


PLUG = Plug(
    name="health",
    settings=lambda runtime: runtime.watches or (),
    make=_make,
    conditions=("Tunnels",),
)
