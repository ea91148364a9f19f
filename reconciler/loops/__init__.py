"""What no static file can know. Each loop is a folder: a pure `policy.py`, a thin `loop.py` that feeds it, a `PLUG`."""

from __future__ import annotations

from reconciler.loops import bonds, exits, health
from reconciler.loops.base import Plug

LOOPS: tuple[Plug, ...] = (health.PLUG, bonds.PLUG, exits.PLUG)
"""Every loop, in the order of the status; where two want the same, the first has it."""
