"""The two ends of an edge: which of them dials the other, and where."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.fabric.model import Fabric, GraphEdge
from compiler.fabric.reach import reach
from compiler.fabric.tunnel import End, Tunnel
from compiler.fabric.turns import Turn
from schema.ip import endpoint_text
from schema.problem import Place

Socket = tuple[str, int]
"""A device and the port on which it listens."""


@dataclass(frozen=True, slots=True)
class Dialling:
    """The addresses at which the ends of an edge reach each other; None for an end that cannot be dialled."""

    edge: GraphEdge
    a: str | None
    b: str | None

    @classmethod
    def of(cls, fabric: Fabric, edge: GraphEdge, place: Place, hint: str) -> Dialling:
        """How the ends dial each other; a problem if neither can."""
        found = cls(edge, reach(edge.a, edge.b), reach(edge.b, edge.a))
        if found.a is None and found.b is None:
            message = f"neither {edge.a.name} nor {edge.b.name} can be dialled by the other"
            fabric.problem("GW044", place, message, hint)
        return found

    def add_tunnel(self, name: str, turn: Turn, at_a: Socket, at_b: Socket) -> None:
        """Add a tunnel between these devices to a pair of keys."""
        (dev_a, port_a), (dev_b, port_b) = at_a, at_b
        end_a = End(dev_a, port_a, self.b and endpoint_text(self.b, port_b), turn.key_a, turn.key_b)
        end_b = End(dev_b, port_b, self.a and endpoint_text(self.a, port_a), turn.key_b, turn.key_a)
        turn.tunnels.append(Tunnel(name, {self.edge.a.name: end_a, self.edge.b.name: end_b}))
