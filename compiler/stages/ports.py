"""Which UDP ports the tunnels of each host listen on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from compiler.fabric.bonds import senders
from compiler.fabric.model import Edge, Fabric, Node
from compiler.fabric.spread import Spread
from schema.desired import fabric as desired
from schema.problem import Place

BACKBONE, CLIENTS = "wg-backbone", "wg-clients"
CANDIDATES = 2048
"""Free ports of a host among which those of a tunnel are chosen."""


class Ports:
    """UDP ports of each host: fixed ones first, then those that the lock names, then the next that are free."""

    def __init__(self, fabric: Fabric, defaults: desired.Ports) -> None:
        self.fabric, self.defaults = fabric, defaults
        self.used: dict[str, dict[int, str]] = {name: {} for name in fabric.nodes}
        self.given: dict[tuple[str, str], int] = {}
        for node in fabric.nodes.values():
            pinned = node.model.ports
            if node in fabric.backbone:
                self._listen(node, BACKBONE, pinned.get("backbone", defaults.backbone))
            if node.clients:
                self._listen(node, CLIENTS, pinned.get("clients", defaults.clients))

    def _listen(self, node: Node, dev: str, port: int) -> None:
        node.ports[dev] = port
        self._claim(node, port, dev, node.place("ports"))

    def _claim(self, node: Node, port: int, what: str, place: Place) -> None:
        other = self.used[node.name].setdefault(port, what)
        if other != what:
            hint = "two devices cannot listen on one port: choose another"
            self.fabric.problem("GW040", place, f"port {port} of {node.name} is taken by {other}", hint)

    def of(self, node: Node, dev: str) -> int:
        """The port of a device of the backbone."""
        return node.ports.setdefault(dev, self.given.get((node.name, dev), 0))

    def take_fixed(self, links: list[tuple[Edge, desired.Link, Callable[..., Place]]]) -> None:
        for edge, link, place in links:
            for name, ports in link.ports.items():
                node = self.fabric.resolve(name)
                if node is None:
                    continue
                if len(ports) != link.tunnels:
                    message = f"{len(ports)} ports for {link.tunnels} tunnels"
                    self.fabric.problem("GW042", place("ports", name), message, "write one port for each tunnel")
                for n, port in enumerate(ports[: link.tunnels], 1):
                    self._claim(node, port, f"{edge.name}/{n}", place("ports", name, n - 1))
                    self.given[node.name, f"{edge.name}/{n}"] = port

    def take_locked(self, node: Node, name: str) -> None:
        """What the lock names, unless somebody has it already."""
        port = self.fabric.desired.lock.get(("port", node.name, name), 0)
        if port and (node.name, name) not in self.given and port not in self.used[node.name]:
            self._give(node, name, port)

    def take_next(self, node: Node, name: str) -> None:
        if (node.name, name) not in self.given:
            self._give(node, name, self._next(node, self.used[node.name]))

    def take_tunnels(self, edge: Edge, names: Sequence[str]) -> None:
        """Ports for those tunnels of an edge that have none yet: where bonds hash them, such as spread the tunnels."""
        spread = Spread(*senders(edge))
        there = {name: tuple(self.given.get((node.name, name), 0) for node in (edge.a, edge.b)) for name in names}
        for a, b in there.values():
            if a and b:
                spread.add((a, b))
        for name, (a, b) in there.items():
            if a and b:
                continue
            rows = [a] if a else self._free(edge.a), [b] if b else self._free(edge.b)
            if spread and all(rows):
                pair = spread.choose(*rows)
                for node, port in zip((edge.a, edge.b), pair, strict=True):
                    if (node.name, name) not in self.given:
                        self._give(node, name, port)
                spread.add(pair)
            else:
                self.take_next(edge.a, name)
                self.take_next(edge.b, name)

    def _give(self, node: Node, name: str, port: int) -> None:
        self.used[node.name][port] = name
        self.given[node.name, name] = self.fabric.lock["port", node.name, name] = port

    def _free(self, node: Node) -> list[int]:
        """The next ports that are free, as many as are looked at."""
        used = self.used[node.name]
        return list(islice((port for port in range(self.defaults.links, 65536) if port not in used), CANDIDATES))

    def _next(self, node: Node, used: dict[int, str]) -> int:
        port = next((port for port in range(self.defaults.links, 65536) if port not in used), 0)
        doc = self.fabric.desired.fabric
        if not port and doc is not None:
            hint = "let the ports of links begin lower: `defaults.ports.links`"
            place = doc.place("defaults", "ports", "links")
            self.fabric.problem("GW034", place, f"{node.name} has no UDP port left for its tunnels", hint)
        return port or self.defaults.links
