"""Exits through our own sites: finds the gateways of each exit."""

from __future__ import annotations

from compiler.fabric.model import Fabric, HostExit, Node
from compiler.fabric.reach import reach
from compiler.stages.names import known
from schema.plan.exits import SITE_EXITS
from schema.problem import Place


def take_site_exits(fabric: Fabric) -> None:
    """Set the gateways of each exit: all named hosts that can be dialled."""
    for node in fabric.nodes.values():
        taken: dict[str, Place] = {}
        for exit in node.exits:
            for i, name in enumerate(exit.model.sites):
                place = node.place("exits", exit.name, "sites", i)
                if known(fabric, name, place):
                    _take(fabric, node, exit, name, place)
            for field in ("prefer", "ignore") if exit.model.sites else ():
                for i, name in enumerate(getattr(exit.model, field)):
                    known(fabric, name, node.place("exits", exit.name, field, i))
            _once(fabric, node, exit, taken)
    for node in fabric.nodes.values():
        if node.served_exits:
            _free(fabric, node)


def _take(fabric: Fabric, node: Node, exit: HostExit, name: str, place: Place) -> None:
    hosts = fabric.hosts(name)
    if node in hosts:
        hint = "name others: of its own site only the other hosts"
        fabric.problem("GW114", place, f"{node.name} would be a gateway of its own exit {exit.name}", hint)
        return
    there = [host for host in hosts if reach(host, node)]
    if not there:
        hint = "give its underlay a `public:` address or name, of a family that the other has too"
        other = (hosts[0].place("underlay"), "its underlay")
        fabric.problem("GW115", place, f"{node.name} can dial no host of {name}", hint, other)
    for host in there:
        if host.name not in exit.gateways:
            exit.gateways.append(host.name)
            host.served_exits.append(exit)


def _once(fabric: Fabric, node: Node, exit: HostExit, taken: dict[str, Place]) -> None:
    """Check that no gateway has two exits of a host: it knows the host by its key, and a key has only one session."""
    place = node.place("exits", exit.name, "sites")
    for name in exit.gateways:
        if name in taken:
            message = f"{name} is a gateway of two exits of {node.name}"
            hint = "name different hosts for each exit, or have one exit that both of them take"
            fabric.problem("GW116", place, message, hint, (taken[name], "the other exit"))
        taken[name] = place


def _free(fabric: Fabric, node: Node) -> None:
    if SITE_EXITS in (node.model.underlay.dev, *node.model.lans) or SITE_EXITS in node.devices:
        hint = f"rename the interface or the exit: on a host that is a gateway of exits, {SITE_EXITS} has their tunnels"
        fabric.problem("GW045", node.place(key=True), f"{node.name} has two interfaces called {SITE_EXITS}", hint)
    node.devices.add(SITE_EXITS)
