"""Durations: text with a unit in documents, seconds in the program."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> float:
    """`10s`, `100ms`, `2m`, `1h` as seconds. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a duration: write 10s, 100ms, 2m or 1h")
    return float(found[1]) * _UNITS[found[2]]


def duration_text(value: float) -> str:
    """Seconds as a person writes them: 0.2 -> `200ms`, 60.0 -> `60s`, 300.0 -> `5m`. Rounds to whole milliseconds."""
    milliseconds = round(value * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    whole = milliseconds // 1000
    for unit, size in (("h", 3600), ("m", 60)):
        if whole > size and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"
