"""The lab's own folder: everything that it leaves on the disk stands below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MAX_SOCKET = 100
"""Bytes that fit into a Unix socket's address (sun_path in unix(7) has 108)."""


class LabError(Exception):
    """The lab cannot do what was asked; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where things are below the lab's folder."""

    root: Path

    @property
    def work(self) -> Path:
        """A clone with the lab's own commit on top: edit, commit and push here."""
        return self.root / "work"

    @property
    def bare(self) -> Path:
        """The repository that the agents pull from."""
        return self.root / "wan.git"

    @property
    def git(self) -> Path:
        """The git server's keys and configuration."""
        return self.root / "git"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def log(self) -> Path:
        return self.logs / "lab.log"

    @property
    def socket(self) -> Path:
        return self.root / "lab.sock"

    @property
    def provider(self) -> Path:
        """What the providers' twins need (`lab/provider/make.py`)."""
        return self.root / "provider"

    @property
    def provider_socket(self) -> Path:
        """Where the twins' faults are switched."""
        return self.root / "provider.sock"

    @property
    def relay_socket(self) -> Path:
        """Where the distances of lines are changed."""
        return self.root / "relay.sock"

    @property
    def pid(self) -> Path:
        """The process that holds the lab's namespaces; when it ends, all of the lab ends."""
        return self.root / "lab.pid"

    @property
    def settings(self) -> Path:
        return self.root / "lab.json"

    def host(self, name: str) -> Path:
        return self.root / "hosts" / name

    def agent_socket(self, name: str) -> Path:
        return self.host(name) / "agent.sock"

    def check(self) -> None:
        """Raises LabError where the folder lies too deep for a Unix socket."""
        longest = str(self.agent_socket("x" * 20))
        if len(longest.encode()) > MAX_SOCKET:
            raise LabError(f"{self.root} is too long a path for Unix sockets: choose a shorter one with --lab")
