"""The line from the agent to its parent, which enforces the deadline of a change (process/parent.py)."""

from __future__ import annotations

import os


class Line:
    """The agent's end of a pipe, with one message per line. Without a parent it does nothing."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def arm(self, seconds: float) -> None:
        """A change begins or continues. Its deadline is `seconds` from now."""
        self._say(f"arm {seconds:.3f}")

    def disarm(self) -> None:
        """The host is at a confirmed plan."""
        self._say("disarm")

    def alive(self) -> None:
        self._say("alive")

    def ready(self) -> None:
        """The last confirmed plan is in place."""
        self._say("ready")

    def _say(self, text: str) -> None:
        if self._descriptor is not None:
            try:
                os.write(self._descriptor, f"{text}\n".encode())
            except OSError:
                self._descriptor = None
