"""Assigns UDP listening ports to each host's tunnels and devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from compiler.fabric.bonds import senders
from compiler.fabric.model import Fabric, GraphEdge, Node
from compiler.fabric.spread import Spread
from schema.desired import fabric as desired
from schema.problem import Place

BACKBONE, CLIENTS = "wg-backbone", "wg-clients"
CANDIDATES = 2048
"""Number of a host's free ports that are considered for a tunnel."""


@dataclass(slots=True, eq=False)
class Listener:
    """An object that listens on a port of a host: one end of a tunnel, or a device with many peers."""

    node: Node
    name: str
    """Its name in the lock."""
    port: int = 0
    """0 while not assigned."""


TunnelEnds = tuple[Listener, Listener]
"""The two ends of a tunnel."""


class PortPool:
    """The UDP ports of every host. Devices with configured ports have them from the start.

    Other listeners get ports in this order: written ports, locked ports, then the next free ones.
    """

    def __init__(self, fabric: Fabric, defaults: desired.Ports) -> None:
        self.fabric, self.defaults = fabric, defaults
        self.used: dict[str, dict[int, str]] = {name: {} for name in fabric.nodes}
        """Host -> port -> the listener's name."""
        for node in fabric.nodes.values():
            pinned = node.model.ports
            if node in fabric.backbone:
                self._listen(node, BACKBONE, pinned.get("backbone", defaults.backbone))
            if node.clients:
                self._listen(node, CLIENTS, pinned.get("clients", defaults.clients))

    def fix(self, listener: Listener, port: int, place: Place) -> None:
        """Assign a written port; it is a problem if another listener has it."""
        self._claim(listener.node, port, listener.name, place)
        listener.port = port

    def lock(self, listener: Listener) -> None:
        """Assign the locked port, unless another listener has it."""
        port = self.fabric.desired.lock.get(("port", listener.node.name, listener.name), 0)
        if port and not listener.port and port not in self.used[listener.node.name]:
            self._give(listener, port)

    def next(self, listener: Listener) -> None:
        """Assign the next free port, if the listener has none yet."""
        if not listener.port:
            self._give(listener, self._next(listener.node))

    def spread(self, edge: GraphEdge, pairs: Sequence[TunnelEnds]) -> None:
        """Assign ports to the tunnels of an edge that have none; if bonds hash the ports, choose an even spread."""
        spread = Spread(*senders(edge))
        for a, b in pairs:
            if a.port and b.port:
                spread.add((a.port, b.port))
        for a, b in pairs:
            if a.port and b.port:
                continue
            rows = [a.port] if a.port else self._free(a.node), [b.port] if b.port else self._free(b.node)
            if spread and all(rows):
                ports = spread.choose(*rows)
                for listener, port in zip((a, b), ports, strict=True):
                    if not listener.port:
                        self._give(listener, port)
                spread.add(ports)
            else:
                self.next(a)
                self.next(b)

    def _listen(self, node: Node, dev: str, port: int) -> None:
        node.ports[dev] = port
        self._claim(node, port, dev, node.place("ports"))

    def _claim(self, node: Node, port: int, what: str, place: Place) -> None:
        other = self.used[node.name].setdefault(port, what)
        if other != what:
            hint = "two devices cannot listen on one port: choose another"
            self.fabric.problem("GW040", place, f"port {port} of {node.name} is taken by {other}", hint)

    def _give(self, listener: Listener, port: int) -> None:
        host = listener.node.name
        self.used[host][port] = listener.name
        listener.port = self.fabric.lock["port", host, listener.name] = port

    def _free(self, node: Node) -> list[int]:
        """The next free ports, at most CANDIDATES."""
        used = self.used[node.name]
        return list(islice((port for port in range(self.defaults.links, 65536) if port not in used), CANDIDATES))

    def _next(self, node: Node) -> int:
        used = self.used[node.name]
        port = next((port for port in range(self.defaults.links, 65536) if port not in used), 0)
        doc = self.fabric.desired.fabric
        if not port and doc is not None:
            hint = "let the ports of links begin lower: `defaults.ports.links`"
            place = doc.place("defaults", "ports", "links")
            self.fabric.problem("GW034", place, f"{node.name} has no UDP port left for its tunnels", hint)
        return port or self.defaults.links
