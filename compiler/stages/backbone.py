"""The backbone: a link between every two members, on one device of each, or two while keys are rotated."""

from __future__ import annotations

from itertools import combinations

from compiler.fabric.dialling import Dialling
from compiler.fabric.model import Fabric, GraphEdge
from compiler.fabric.mtu import tunnel_mtu
from compiler.fabric.turns import check_turns, turns
from compiler.stages.ports import BACKBONE, Listener
from schema.desired import Located
from schema.desired import fabric as desired


def device_of(own: int, far: int) -> str:
    """The device for peers with a key of number `far`, on a host with a key of number `own`.

    A device has one key, and a peer's two keys want the same addresses. So rotations at either end have their own
    devices.
    """
    return BACKBONE + {(1, 1): "", (0, 1): "-b", (1, 0): "-c", (0, 0): "-d"}[own % 2, far % 2]


def other_devices(fabric: Fabric) -> list[Listener]:
    """The backbone devices that get their port from the lock: all except the first of each host."""
    found: dict[tuple[str, str], Listener] = {}
    for a, b in combinations(fabric.backbone, 2):
        for turn in turns(GraphEdge("backbone", a, b)):
            for node, own, far in ((a, turn.number_a, turn.number_b), (b, turn.number_b, turn.number_a)):
                dev = device_of(own, far)
                if dev != BACKBONE:
                    found.setdefault((node.name, dev), Listener(node, dev))
    return list(found.values())


def build_backbone(fabric: Fabric, doc: Located[desired.Fabric], others: list[Listener]) -> None:
    """Add the backbone's edges and tunnels; `others` already have their ports."""
    defaults, ports = doc.model.defaults, {(one.node.name, one.name): one.port for one in others}
    linked = {edge.name for edge in fabric.edges if edge.kind == "link"}
    for a, b in combinations(fabric.backbone, 2):
        edge = GraphEdge("backbone", a, b, keepalive=round(defaults.keepalive))
        if edge.name in linked:
            continue
        edge.mtu = tunnel_mtu(fabric, edge, defaults.mtu, lambda *loc, **_: doc.place("defaults", *loc))
        hint = "give one of them a `public:` address or name"
        dialling = Dialling.of(fabric, edge, doc.place("backbone"), hint)
        check_turns(fabric, edge, lambda: doc.place("backbone"))
        for turn in turns(edge):
            dev_a, dev_b = device_of(turn.number_a, turn.number_b), device_of(turn.number_b, turn.number_a)
            port_a = a.ports.setdefault(dev_a, ports.get((a.name, dev_a), 0))
            port_b = b.ports.setdefault(dev_b, ports.get((b.name, dev_b), 0))
            dialling.add_tunnel(f"{edge.name}/backbone{turn.letter}", turn, (dev_a, port_a), (dev_b, port_b))
        fabric.add(edge)
