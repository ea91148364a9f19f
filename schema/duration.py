"""Times as people write them."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> float:
    """`10s`, `100ms`, `2m`, `1h` as seconds. Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a duration: write 10s, 100ms, 2m or 1h")
    return float(found[1]) * _UNITS[found[2]]
