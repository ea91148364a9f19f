"""A problem in the input: a stable code, the place, what is wrong, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """A position in a file of the repository. Lines and columns count from 1; 0 means the whole file."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at a place. `docs/problems.md` has a paragraph for each code."""

    code: str
    place: Place
    message: str
    hint: str = ""
    related: tuple[tuple[Place, str], ...] = ()
    severity: Literal["error", "warning"] = "error"

    @property
    def sort_key(self) -> tuple[Place, str, str]:
        return (self.place, self.code, self.message)

    def text(self) -> str:
        """The problem for people: a line for the problem, a line for each related place, and a line for the hint."""
        lines = [f"{self.place}: {self.severity}[{self.code}]: {self.message}"]
        lines += [f"   {place}: {text}" for place, text in self.related]
        if self.hint:
            lines.append(f"   {self.hint}")
        return "\n".join(lines)

    def json(self) -> dict[str, object]:
        return {
            "code": self.code,
            "severity": self.severity,
            "path": self.place.path,
            "line": self.place.line,
            "column": self.place.column,
            "message": self.message,
            "hint": self.hint,
            "related": [
                {"path": place.path, "line": place.line, "column": place.column, "text": text}
                for place, text in self.related
            ],
        }


class Problems(Exception):  # noqa: N818 - a finding about the input, not a failure of the program
    """Raised at a phase barrier with all problems so far, sorted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(problems, key=lambda p: p.sort_key)
        super().__init__("\n".join(problem.text() for problem in self.problems))
