"""Stores what is known of commits other than the confirmed one.

accepted.json         a commit that was allowed by name (`gitwan agent accept`)
interrupted.json      a commit that was interrupted during a change, and how often
rejected.json         commits that failed, with reason and time
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconciler.base.files import dump_json, read_object, remove, set_aside, write_atomic

KEEP_REJECTED = 16


@dataclass(frozen=True, slots=True)
class Rejected:
    """A commit that was tried and rolled back. It is not tried again until it is forgotten."""

    commit: str
    reason: str
    message: str
    time: float


class Commits:
    """Reads and writes these files in the state folder. Writing raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._accepted = folder / "accepted.json"
        self._interrupted = folder / "interrupted.json"
        self._file = folder / "rejected.json"
        self._unwritten: dict[str, Rejected] = {}

    # A commit that a person allowed on this host although it does not descend from the confirmed one

    def accepted(self) -> str | None:
        """The commit that was allowed last."""
        value, _ = read_object(self._accepted)
        commit = (value or {}).get("commit")
        return commit if isinstance(commit, str) else None

    def accept(self, commit: str) -> None:
        """Allow a commit. Raises OSError."""
        write_atomic(self._accepted, dump_json({"commit": commit}))

    # Interrupted commits

    def count_interruption(self, commit: str) -> int:
        """Count an interruption of a commit. Returns the new count, which is not stored if the disk is full."""
        value, _ = read_object(self._interrupted)
        known = value or {}
        count = 1 + (int(known.get("count", 0)) if known.get("commit") == commit else 0)
        try:
            write_atomic(self._interrupted, dump_json({"commit": commit, "count": count}))
        except OSError:
            pass
        return count

    # Rejected commits

    def rejected(self) -> dict[str, Rejected]:
        """The rejected commits, by id."""
        value, _ = read_object(self._file)
        try:
            stored = {commit: Rejected(commit=commit, **entry) for commit, entry in (value or {}).items()}
        except TypeError:
            set_aside(self._file)
            stored = {}
        return self._unwritten | stored

    def reject(self, rejected: Rejected) -> None:
        """Store a commit as rejected, and forget the oldest ones above KEEP_REJECTED.

        Raises OSError, but even then remembers it until the process ends.
        """
        self._unwritten = {rejected.commit: rejected}
        known = self.rejected()
        latest = sorted(known.values(), key=lambda r: r.time)[-KEEP_REJECTED:]
        entries = {r.commit: {"reason": r.reason, "message": r.message, "time": r.time} for r in latest}
        write_atomic(self._file, dump_json(entries))

    def forget_rejected(self) -> None:
        """Allow every rejected commit to be tried again. Raises OSError."""
        self._unwritten = {}
        remove(self._file)
