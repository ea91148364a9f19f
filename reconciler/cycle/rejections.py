"""Which commits are not tried again."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.base.errors import CycleError, Stalled
from reconciler.state.commits import Rejected
from reconciler.state.store import Store

INTERRUPTIONS = 2
"""How often a commit may be cut off by a reboot before it is rejected."""


class Rejections:
    """Rejects commits whose plans failed, or were cut off again and again. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._commits = store.commits
        self._clock = clock

    def reject(self, commit: str, error: CycleError) -> None:
        """Do not try this commit again until somebody asks for it."""
        try:
            self._commits.reject(Rejected(commit, error.reason, error.message, self._clock()))
        except OSError:
            pass  # it is remembered until the agent ends

    def cut_off(self, commit: str, because: str) -> None:
        """A change was interrupted. What the parent has seen to fail is rejected; a reboot may have had any reason."""
        if not commit:
            return
        count = self._commits.count_interruption(commit)
        if because:
            self.reject(commit, Stalled("Applied", "CutOff", because))
        elif count >= INTERRUPTIONS:
            text = f"it was cut off {count} times in mid-change, by a reboot or a kill"
            self.reject(commit, Stalled("Applied", "CutOff", text))
