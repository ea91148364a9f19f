"""Checks whether the bonds under tunnels work: LACP, carriers, and how the switch distributes incoming tunnels."""

from __future__ import annotations

from reconciler.loops.base import Ground, Loop, Plug


def _make(ground: Ground) -> Loop:
    from reconciler.loops.bonds.loop import BondsLoop
    from reconciler.system.bond import BondReader

    return BondsLoop(ground, BondReader)


PLUG = Plug(
    name="bonds",
    settings=lambda runtime: runtime.bonds or (),
    make=_make,
    conditions=("Bond",),
)
