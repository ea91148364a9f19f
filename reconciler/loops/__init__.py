"""Decisions from run-time measurements. Each loop is a folder: a pure `policy.py`, a thin `loop.py`, a `PLUG`."""

from __future__ import annotations

from reconciler.loops import bonds, exits, health
from reconciler.loops.base import Plug

LOOPS: tuple[Plug, ...] = (health.PLUG, bonds.PLUG, exits.PLUG)
"""Every loop, in the order of the status; if two loops want the same resource, the first one gets it."""
