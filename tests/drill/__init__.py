"""What takes long: `make drill` runs all of it, `make test` a sample."""

from __future__ import annotations

import os


def everything() -> bool:
    """Whether all is wanted, and not a sample."""
    return bool(os.environ.get("GITWAN_DRILL"))
