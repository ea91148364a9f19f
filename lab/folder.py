"""The lab's folder. All files of the lab are below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MAX_SOCKET = 100
"""The maximum length of a Unix socket's path in bytes (sun_path in unix(7) has 108)."""


class LabError(Exception):
    """The lab cannot do what was asked. The text gives the reason and the next step."""


@dataclass(frozen=True, slots=True)
class LabFolder:
    """The paths below the lab's folder."""

    root: Path

    @property
    def work(self) -> Path:
        """A clone with the lab's own commit on top. Edit, commit and push here."""
        return self.root / "work"

    @property
    def bare(self) -> Path:
        """The bare repository that the agents pull from."""
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
        """The files of the simulated providers (`lab/provider/make.py`)."""
        return self.root / "provider"

    @property
    def provider_socket(self) -> Path:
        """The socket that switches faults of the simulated providers."""
        return self.root / "provider.sock"

    @property
    def relay_socket(self) -> Path:
        """The socket that changes the distances of lines."""
        return self.root / "relay.sock"

    @property
    def pid(self) -> Path:
        """The PID file of the process that holds the lab's namespaces. When this process ends, the whole lab ends."""
        return self.root / "lab.pid"

    @property
    def settings(self) -> Path:
        return self.root / "lab.json"

    def host(self, name: str) -> Path:
        return self.root / "hosts" / name

    def agent_socket(self, name: str) -> Path:
        return self.host(name) / "agent.sock"

    def check(self) -> None:
        """Raises LabError if the folder's path is too long for a Unix socket."""
        longest = str(self.agent_socket("x" * 20))
        if len(longest.encode()) > MAX_SOCKET:
            raise LabError(f"{self.root} is too long a path for Unix sockets: choose a shorter one with --lab")
