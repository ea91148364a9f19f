"""Stores values from before us, for resources that the kernel cannot mark: a JSON file on disk."""

from __future__ import annotations

import json
from pathlib import Path

from reconciler.base.files import dump_json, write_atomic

VERSION = 1


class InventoryError(Exception):
    """The inventory exists but cannot be read. Deleting it would lose the values from before us."""


class Inventory:
    """Old values by name, such as `sysctl:net/ipv4/ip_forward`."""

    def __init__(self, path: Path) -> None:
        """Raises InventoryError if the file is corrupt, OSError if it cannot be read."""
        self._path = path
        self._values = self._load()

    def _load(self) -> dict[str, str]:
        try:
            document = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise InventoryError(f"{self._path} is no JSON: {error}") from None
        values = document.get("values") if isinstance(document, dict) and document.get("version") == VERSION else None
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise InventoryError(f"{self._path} is no inventory of version {VERSION}")
        return values

    def names(self) -> list[str]:
        return sorted(self._values)

    def get(self, name: str) -> str | None:
        """The value from before us; None if nothing was recorded."""
        return self._values.get(name)

    def record(self, name: str, value: str) -> None:
        """Store the value from before us; a value stored earlier stays. Raises OSError."""
        if name not in self._values:
            self._store(self._values | {name: value})

    def forget(self, name: str) -> None:
        """Delete a stored value. Raises OSError."""
        if name in self._values:
            self._store({other: value for other, value in self._values.items() if other != name})

    def _store(self, values: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, dump_json({"version": VERSION, "values": values}))
        self._values = values
