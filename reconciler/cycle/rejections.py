"""Remembers which commits are not tried again."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.base.errors import CycleError, Stalled
from reconciler.state.commits import Rejected
from reconciler.state.store import Store

INTERRUPTIONS = 2
"""A commit is rejected after this many interruptions by a reboot or a kill."""


class Rejections:
    """Rejects commits whose plans failed or were interrupted repeatedly. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._commits = store.commits
        self._clock = clock

    def reject(self, commit: str, error: CycleError) -> None:
        """Do not try this commit again until a person asks for it."""
        try:
            self._commits.reject(Rejected(commit, error.reason, error.message, self._clock()))
        except OSError:
            pass  # then it is remembered until the agent ends

    def cut_off(self, commit: str, because: str) -> None:
        """Count an interrupted change. Reject the commit at once if the parent saw why; a reboot may have any cause."""
        if not commit:
            return
        count = self._commits.count_interruption(commit)
        if because:
            self.reject(commit, Stalled("Applied", "CutOff", because))
        elif count >= INTERRUPTIONS:
            text = f"it was cut off {count} times in mid-change, by a reboot or a kill"
            self.reject(commit, Stalled("Applied", "CutOff", text))
