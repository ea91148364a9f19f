"""Phrases that several messages share."""

from __future__ import annotations

from collections.abc import Sized


def and_more(things: Sized) -> str:
    """` (and 3 more)` after the first of four things; empty if there is only one."""
    return f" (and {len(things) - 1} more)" if len(things) > 1 else ""
