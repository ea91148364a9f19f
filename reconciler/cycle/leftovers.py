"""After a restart, protects what a loop's earlier run left in the kernel until the loop speaks, for a limited time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from reconciler.converge.converger import Converger
from reconciler.converge.diff import name_of
from reconciler.converge.wanted import Scope, Wanted
from reconciler.kinds.base import Observed

WINDOW = 60.0
"""Seconds after the first cycle in which an owner must say what it wants in its scopes."""


class Leftovers:
    """The scopes of owners that have not said yet what they want. `ticks` is a monotonic clock, in seconds."""

    def __init__(self, wanted: Wanted, converger: Converger, ticks: Callable[[], float]) -> None:
        self._wanted = wanted
        self._converger = converger
        self._ticks = ticks
        self._until: float | None = None
        self._open = True

    def protect(self, owner: str, scopes: Iterable[Scope]) -> None:
        """Delete nothing in these scopes until the owner has said what it wants or the window has ended."""
        if self._open:
            self._wanted.expect(owner, scopes)

    def within(self, scopes: Iterable[Scope]) -> list[Observed[Any]]:
        """Our objects in these scopes that no plan names: an earlier run of the owner left them."""
        current, mirror, kinds = self._wanted.current, self._converger.mirror, self._converger.kinds
        found = (one for scope in scopes for one in mirror.kind(scope.kind) if scope.covers(name_of(one.resource)))
        return [
            one for one in found if kinds[one.resource.kind].owns(one) and current.get(name_of(one.resource)) is None
        ]

    def count_down(self) -> None:
        """Call this in every cycle. After the window, an owner that has said nothing wants nothing."""
        if not self._open:
            return
        self._until = self._until or self._ticks() + WINDOW
        if self._ticks() > self._until:
            self._open = False
            self._wanted.waive()
