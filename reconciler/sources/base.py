"""What the engine wants of a source of plans."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from schema.plan import HostPlan


class Source(Protocol):
    """Somewhere that plans come from. Errors are `CycleError`s of the conditions Fetched and Compiled."""

    @property
    def name(self) -> str:
        """What people call it, for status."""
        ...

    def fetch(self) -> str:
        """The newest commit, or another stable name of what is there. Raises Transient, Waiting or Stalled."""
        ...

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        """This host's plan at a commit that was fetched, and a note for people. Raises Stalled or Transient."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A source that has ciphertexts beside its plans."""

    def sealed(self, commit: str, name: str) -> bytes | None:
        """The ciphertext of a secret at a commit; None where it is not there. Raises Stalled or Transient."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A source that can be asked whether it is there, and that may be lost by a change of the network."""

    @property
    def server(self) -> str:
        """Its address or name; empty where it is on this host."""
        ...

    def reachable(self, seconds: float) -> bool:
        """Whether it answers in time."""
        ...
