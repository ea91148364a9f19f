"""The errors that stop a cycle. The class says what happens next; the reason names it in a condition.

CycleError
├── Stalled     do not retry until the input changes: a new commit, another setting, a person
├── Waiting     retry after a known time
└── Transient   retry, with growing pauses and jitter
"""

from __future__ import annotations


class CycleError(Exception):
    """A failure, with the condition that it makes False, a reason in one CamelCase word, and a sentence."""

    def __init__(self, condition: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.condition = condition
        self.reason = reason
        self.message = message


class Stalled(CycleError):  # noqa: N818 - named for what happens next
    """A retry with the same input cannot help."""


class Waiting(CycleError):  # noqa: N818
    """Retry after `retry_after` seconds."""

    def __init__(self, condition: str, reason: str, message: str, retry_after: float) -> None:
        super().__init__(condition, reason, message)
        self.retry_after = retry_after


class Transient(CycleError):  # noqa: N818
    """May pass by itself."""


class Busy(Exception):  # noqa: N818 - a state of affairs
    """Another process works with the same state folder."""
