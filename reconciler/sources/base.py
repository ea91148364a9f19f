"""The interface of a source of plans."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from schema.plan import HostPlan


class Source(Protocol):
    """A source of plans. Its errors are `CycleError`s of the conditions Fetched and Compiled."""

    @property
    def name(self) -> str:
        """The name for people, in the status."""
        ...

    def fetch(self) -> str:
        """The newest commit, or another stable name of the content. Raises Transient, Waiting or Stalled."""
        ...

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        """This host's plan at a fetched commit, and a note for people. Raises Stalled or Transient."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A source that stores ciphertexts with its plans."""

    def sealed(self, commit: str, name: str) -> bytes | None:
        """The ciphertext of a secret at a commit; None if missing. Raises Stalled or Transient."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A source on a server, which a change of the network may cut off."""

    @property
    def server(self) -> str:
        """The server's address or name; empty if the source is on this host."""
        ...

    def reachable(self, seconds: float) -> bool:
        """Whether the server answers within `seconds`."""
        ...
