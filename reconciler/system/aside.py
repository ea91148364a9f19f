"""Stepping aside: what waits for a process lets others use the kernel meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

Aside = Callable[[], AbstractContextManager[None]]
"""Entered for as long as a driver only waits. Others may then use the same drivers, so nothing is half done there."""
