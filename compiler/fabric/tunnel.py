"""A WireGuard tunnel of a link, and its two ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class End:
    """One end of a tunnel."""

    dev: str
    port: int
    endpoint: str | None
    """The address or name and port at which this end dials the other; None if it waits to be dialled."""
    key: str | None = None
    """The public key of this end."""
    peer: str | None = None
    """The public key of the other end."""
    leg: int | None = None
    """The bond member through which this end sends, counted from 0; None if unknown."""


@dataclass(slots=True, eq=False)
class Tunnel:
    """One WireGuard tunnel of a link, with an end at each host."""

    name: str
    ends: dict[str, End]
