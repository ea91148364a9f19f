"""Stepping aside: a driver that waits for a process lets other threads use the kernel meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

Aside = Callable[[], AbstractContextManager[None]]
"""Entered while a driver only waits. Other threads may then use the same drivers, so no work may be half done."""
