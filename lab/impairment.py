"""What a packet meets on its way. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Impairment:
    """The properties of a line, the same in each direction."""

    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Up to this number of seconds is added. Packets stay in order."""
    loss: float = 0.0
    """The share of packets that is lost, from 0 to 1."""
    silent: bool = False
    """Whether all packets are lost."""
