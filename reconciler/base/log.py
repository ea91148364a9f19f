"""Log lines on standard error: level, time in UTC, text. One line each, and never a secret."""

from __future__ import annotations

import sys
import time
from typing import Literal

Level = Literal["info", "warning", "error"]


def log(level: Level, text: str) -> None:
    """Write one line, for journald or another reader."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{level} {stamp} {' | '.join(text.splitlines())}\n")
    sys.stderr.flush()
