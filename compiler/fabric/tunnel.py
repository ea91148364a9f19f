"""A WireGuard tunnel of a link, and its two ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class End:
    """One end of a tunnel."""

    dev: str
    port: int
    endpoint: str | None
    """Where this end dials the other: address or name and port; None where it waits to be dialled."""
    key: str | None = None
    """The public key of this end."""
    peer: str | None = None
    """The public key of the other end."""
    leg: int | None = None
    """Of a bond: the member by which this end sends, counted from 0; None where that is not known."""


@dataclass(slots=True, eq=False)
class Tunnel:
    """One WireGuard tunnel of a link, with an end at each host."""

    name: str
    ends: dict[str, End]
