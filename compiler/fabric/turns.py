"""The pairs of keys at the two ends of an edge: one in use and, while a key is rotated, one that takes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compiler.fabric.model import Fabric, GraphEdge
from compiler.fabric.tunnel import Tunnel
from schema.problem import Place


@dataclass(frozen=True, slots=True)
class Turn:
    """A pair of keys, and the tunnels that use it."""

    number_a: int
    """The number of the first end's key, counted from that host's first key."""
    number_b: int
    key_a: str | None
    key_b: str | None
    tunnels: list[Tunnel]

    @property
    def letter(self) -> str:
        """Distinguishes the names of its tunnels from those of the previous pair."""
        return "b" if (self.number_a + self.number_b) % 2 else ""


def turns(edge: GraphEdge) -> list[Turn]:
    """The pair of keys in use and, while one end rotates its key, the pair that takes over."""
    a, b = edge.a, edge.b
    found = [Turn(a.number, b.number, a.key, b.key, edge.tunnels)]
    if a.next_key:
        found.append(Turn(a.number + 1, b.number, a.next_key, b.key, edge.successors))
    elif b.next_key:
        found.append(Turn(a.number, b.number + 1, a.key, b.next_key, edge.successors))
    return found


def check_turns(fabric: Fabric, edge: GraphEdge, place: Callable[..., Place], *, written_ports: bool = False) -> None:
    """Check that only one end rotates its key at a time; written ports serve every second pair of keys."""
    if edge.a.next_key and edge.b.next_key:
        message = f"{edge.a.name} and {edge.b.name} rotate their keys at the same time, and are linked"
        hint = "finish one before you begin with the other: remove one's new key until then"
        fabric.problem("GW088", place(), message, hint)
    if written_ports and any(turn.letter for turn in turns(edge)):
        message = f"the written ports of {edge.name} hold for every second key of its hosts only"
        fabric.warning("GW089", place("ports"), message, "the tunnels of the others take their ports from the lock")
