"""The line from the agent to its parent, which keeps the deadline of a change (process/parent.py)."""

from __future__ import annotations

import os


class Line:
    """The agent's end of a pipe, one word a line. Without a parent nothing is said."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def arm(self, seconds: float) -> None:
        """A change begins, or goes on: from now on it has so many seconds."""
        self._say(f"arm {seconds:.3f}")

    def disarm(self) -> None:
        """The host is at a plan that is confirmed."""
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
