"""A suspension, during which nothing is changed (`gitwan agent suspend`); suspended.json has its end and reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.base.files import dump_json, read_object, remove, write_atomic


@dataclass(frozen=True, slots=True)
class Suspension:
    """The end, in seconds since the epoch, and the reason of a suspension."""

    until: float
    why: str


class Suspensions:
    """Reads and writes the file in the state folder. Writing raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "suspended.json"

    def current(self, now: float) -> Suspension | None:
        """The suspension in force at `now`, in seconds since the epoch; None if there is none."""
        value, _ = read_object(self._file)
        try:
            found = Suspension(float((value or {})["until"]), str((value or {})["why"]))
        except (KeyError, TypeError, ValueError):
            return None
        return found if now < found.until else None

    def suspend(self, suspension: Suspension) -> None:
        """Begin a suspension; it replaces a current one. Raises OSError."""
        write_atomic(self._file, dump_json(asdict(suspension)))

    def resume(self) -> None:
        """End the suspension. Raises OSError."""
        remove(self._file)
