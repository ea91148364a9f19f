"""A pause in which nothing is touched (`gitwan agent suspend`): suspended.json says until when, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.base.files import dump_json, read_object, remove, write_atomic


@dataclass(frozen=True, slots=True)
class Suspension:
    """Until when, in seconds since the epoch, nothing is touched, and why."""

    until: float
    why: str


class Suspensions:
    """Reads and writes the file in the state folder. Writing raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "suspended.json"

    def current(self, now: float) -> Suspension | None:
        """The pause that is on at a time in seconds since the epoch."""
        value, _ = read_object(self._file)
        try:
            found = Suspension(float((value or {})["until"]), str((value or {})["why"]))
        except (KeyError, TypeError, ValueError):
            return None
        return found if now < found.until else None

    def suspend(self, suspension: Suspension) -> None:
        """Begin a pause, in the place of one that is on. Raises OSError."""
        write_atomic(self._file, dump_json(asdict(suspension)))

    def resume(self) -> None:
        """End the pause. Raises OSError."""
        remove(self._file)
