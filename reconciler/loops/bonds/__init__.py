"""Whether the bonds under tunnels work: LACP and carriers, and what the switch makes of tunnels that it sends here."""

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
