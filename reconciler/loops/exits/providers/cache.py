"""Stores a provider's data between two starts: its list, tokens with expiry, a device, the payload of a port."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.base.files import dump_json, read_object, remove, write_atomic


class Cache:
    """A folder in the agent's state, for one exit and one account, readable only by its owner.

    Its loss costs requests, never correctness, so a full or read-only disk stops nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> dict[str, Any]:
        """The stored object of a name; empty if there is none or it cannot be read."""
        try:
            return read_object(self._folder / f"{name}.json")[0] or {}
        except OSError:
            return {}

    def save(self, name: str, value: dict[str, Any]) -> None:
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._folder / f"{name}.json", dump_json(value), mode=0o600)

    def drop(self, name: str) -> None:
        with suppress(OSError):
            remove(self._folder / f"{name}.json")
