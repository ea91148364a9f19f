"""Kernel parameters: files below /proc/sys, with the values from before us in the inventory."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reconciler.kinds.base import Failure, Observed
from reconciler.kinds.sysctl import MARKER
from reconciler.system.failure import failure
from schema.plan import Change, Sysctl

ROOT = Path("/proc/sys")
"""Below net/, the kernel shows the network namespace of the process that opens a file."""
LONGEST = 1 << 16
"""Maximum bytes that are read of a value; the longest known value is a list of ports."""
_PREFIX = "sysctl:"


class OldValues(Protocol):
    """Stores the values from before us (reconciler/state/inventory.py)."""

    def names(self) -> Sequence[str]: ...
    def get(self, name: str) -> str | None: ...
    def record(self, name: str, value: str) -> None: ...
    def forget(self, name: str) -> None: ...


class SysctlDriver:
    """Observes only parameters in the inventory: a plan names a few of a thousand, and a value from before us is not a
    conflict, but the value to restore."""

    def __init__(self, inventory: OldValues, root: Path = ROOT) -> None:
        self._inventory = inventory
        self._root = root

    def observe(self) -> list[Observed[Sysctl]]:
        found = []
        for entry in self._inventory.names():
            if entry.startswith(_PREFIX):
                name = entry.removeprefix(_PREFIX)
                resource = Sysctl.model_construct(None, kind="sysctl", name=name, value=self._read(name) or "")
                found.append(Observed(resource, MARKER))
        return found

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        failures = []
        for change in changes:
            resource = change.resource
            assert isinstance(resource, Sysctl)
            try:
                if change.after is None:
                    self._restore(resource.name)
                else:
                    self._set(resource.name, resource.value)
            except OSError as error:
                failures.append(failure(change, error))
        return failures

    def _set(self, name: str, value: str) -> None:
        before = self._read(name)
        if before is None:
            raise OSError(errno.ENOENT, f"no kernel parameter {name}")
        self._inventory.record(_PREFIX + name, before)
        if before.split() != value.split():
            self._write(name, value)

    def _restore(self, name: str) -> None:
        before = self._inventory.get(_PREFIX + name)
        if before is None:
            return
        now = self._read(name)
        if now is not None and now != before:
            self._write(name, before)
        self._inventory.forget(_PREFIX + name)

    def _read(self, name: str) -> str | None:
        """The value, with single spaces between several; None if the parameter does not exist (any more)."""
        try:
            # All are read every few seconds: without a text stream this takes a third of the time.
            descriptor = os.open(self._path(name), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return " ".join(os.read(descriptor, LONGEST).decode().split())
        finally:
            os.close(descriptor)

    def _write(self, name: str, value: str) -> None:
        # The kernel accepts a value in one write; no missing file is created.
        descriptor = os.open(self._path(name), os.O_WRONLY)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> str:
        if ".." in name.split("/"):
            raise OSError(errno.EINVAL, f"no kernel parameter {name}")
        return f"{self._root}/{name}"
