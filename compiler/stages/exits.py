"""Exits: the users of each, and the names of their tunnels."""

from __future__ import annotations

from compiler.fabric.model import Fabric, HostExit, Node
from compiler.fabric.slots import marks_needed
from schema.desired.exits import DEV, SELF
from schema.plan.marks import DEFAULT
from schema.problem import Place


def take_exits(fabric: Fabric) -> None:
    """Add every host's exits and marks, and check that no user has two exits."""
    for node in fabric.nodes.values():
        model = node.model
        takers: dict[str, Place] = {}
        named = {name for exit in model.exits.values() for name in exit.for_ or ()}
        for name, exit in model.exits.items():
            place = node.place("exits", name, "for")
            if exit.for_ is None:
                names = [taker for taker in (*model.lans, SELF) if taker not in named]
                named.update(names)
            else:
                names = [taker for taker in exit.for_ if _known(fabric, node, taker, place)]
            if not names:
                hint = "write its LANs, or `self`, as `for:`, or remove it"
                fabric.problem("GW111", node.place("exits", name, key=True), f"nobody takes the exit {name}", hint)
            for taker in names:
                if taker in takers:
                    hint = "everybody takes one exit: name it in one `for:` only"
                    other = (takers[taker], "the other one")
                    fabric.problem("GW111", place, f"{taker} of {node.name} takes two exits", hint, other)
                takers[taker] = place
            nobody = exit.facts.dns == "nobody"
            silent = nobody or any(not gateway.dns for gateway in exit.gateways.values())
            if exit.dns == "provider" and silent:
                message = f"the exit {name} has gateways without a DNS server"
                each = "" if nobody else ", or for each of its gateways"
                hint = f"write `dns:` for the exit{each}: until then names are not looked up there"
                fabric.warning("GW112", node.place("exits", name, key=True), message, hint)
            if exit.port_forward and SELF not in names:
                hint = "write `self` in its `for:`: what comes to the port is answered by this host"
                place = node.place("exits", name, "port_forward")
                fabric.problem("GW113", place, f"the exit {name} forwards a port, and the host does not take it", hint)
            lans = tuple(taker.removeprefix(DEV) for taker in dict.fromkeys(names) if taker != SELF)
            taken = HostExit(node.name, name, exit, lans, SELF in names, _devices(name, exit.use + 1))
            _free(fabric, node, taken)
            node.exits.append(taken)
        _mark(fabric, node)


def _mark(fabric: Fabric, node: Node) -> None:
    """Set the packet marks of a host with exits."""
    doc = fabric.desired.fabric
    if doc is None or not node.exits:
        return
    node.marks, needed = doc.model.marks, marks_needed(node.exits)
    if needed > node.marks.count:
        message = f"the mask of {node.marks} has room for {node.marks.count} marks, and {node.name} needs {needed}"
        bits = needed.bit_length()
        hint = f"write a mask of {bits} bits or more; {DEFAULT} is the default. `on_switch: drain` needs most of them"
        fabric.problem("GW117", doc.place("marks"), message, hint)


def _known(fabric: Fabric, node: Node, taker: str, place: Place) -> bool:
    lans, dev = node.model.lans, taker.removeprefix(DEV)
    if taker == SELF or taker in lans:
        return True
    if dev == taker:
        hint = f"there are: {', '.join([*lans, SELF])}; for an interface of others write `{DEV}{taker}`"
        fabric.problem("GW110", place, f"{node.name} has no LAN {taker!r}", hint)
    elif dev in lans:
        fabric.problem("GW110", place, f"{dev} is a LAN of {node.name}", f"write `{dev}`")
    elif dev == node.model.underlay.dev:
        hint = "remove it: what comes in by it is the internet"
        fabric.problem("GW110", place, f"{dev} is the underlay of {node.name}", hint)
    else:
        return True
    return False


def _devices(name: str, count: int) -> tuple[str, ...]:
    """One device more than simultaneous gateways: the next tunnel must be up before the last one is removed."""
    return tuple(f"wg-{name}" if n == 0 else f"wg-{name}-{n + 1}" for n in range(count))


def _free(fabric: Fabric, node: Node, exit: HostExit) -> None:
    for dev in exit.devs:
        if dev in (node.model.underlay.dev, *node.model.lans, *node.ports) or dev in node.devices:
            hint = "give the exit another name"
            place = node.place("exits", exit.name, key=True)
            fabric.problem("GW045", place, f"{node.name} has two interfaces called {dev}", hint)
        node.devices.add(dev)
