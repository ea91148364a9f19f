"""The output of the benchmark: a row for each measure with its limit, printed as it is measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

OUT = Path(__file__).parent / "out"
QUIET = 2.0
"""After this number of seconds without output, a message says that a measure is still running."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. `limit` is the maximum, or with `at_least` the minimum. None: the row is only information."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    note: str = ""
    """The absolute numbers behind the value."""

    @property
    def ok(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def text(self) -> str:
        limit = "" if self.limit is None else f"{'at least' if self.at_least else 'at most'} {self.limit:g}"
        mark = "    " if self.limit is None else "ok  " if self.ok else "MISS"
        return f"{mark} {self.name:<62} {self.value:>7.2f} {self.unit:<26} {limit:<12} {self.note}".rstrip()

    def json(self) -> dict[str, object]:
        return {
            "name": self.name, "value": round(self.value, 4), "limit": self.limit, "unit": self.unit, "ok": self.ok
        }  # fmt: skip


@dataclass(slots=True)
class Board:
    """The rows of one run."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(row.text(), flush=True)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Print every second second what is running, on standard error. The line is erased afterwards on a terminal."""
        done = Event()
        teller = Thread(target=_tell, args=(text, done), daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def save(self, name: str = "results.json") -> Path:
        OUT.mkdir(exist_ok=True)
        path = OUT / name
        path.write_text(json.dumps([row.json() for row in self.rows], indent=1) + "\n")
        return path

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if not row.ok]


def _tell(text: str, done: Event) -> None:
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    pause = QUIET if terminal else 5 * QUIET
    while not done.wait(pause):
        line = f"     {text} … {time.monotonic() - started:.0f} s"
        print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal and time.monotonic() - started > QUIET:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
