"""Links: their hosts, devices, ports, endpoints and MTU.

links        every written link, as edges between hosts, with tunnels that have no ports yet
ports        first the written ones, then those in the lock, then new ones
tunnels      every tunnel with its two ends; then the backbone, whose tunnels share one device at each host
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

from compiler.fabric.bonds import ride
from compiler.fabric.dialling import Dialling
from compiler.fabric.model import Fabric, GraphEdge, HostExit, Node
from compiler.fabric.mtu import tunnel_mtu
from compiler.fabric.reach import reach
from compiler.fabric.turns import Turn, check_turns, turns
from compiler.stages.backbone import build_backbone, other_devices
from compiler.stages.ports import Listener, PortPool, TunnelEnds
from schema.desired import Located
from schema.desired import fabric as desired
from schema.plan.exits import SITE_EXITS
from schema.problem import Place

IFNAMSIZ = 15


@dataclass(slots=True)
class _Link:
    """A link between two hosts, and its tunnels, which have names but no ports yet."""

    edge: GraphEdge
    written: desired.Link
    place: Callable[..., Place]
    tunnels: list[tuple[Turn, list[TunnelEnds]]] = field(default_factory=list)
    """For each pair of keys, the ends of its tunnels in order."""

    def __post_init__(self) -> None:
        for turn in turns(self.edge):
            numbers = range(1, self.written.tunnels + 1)
            self.tunnels.append((turn, [self._pair(f"{self.edge.name}/{n}{turn.letter}") for n in numbers]))

    def _pair(self, name: str) -> TunnelEnds:
        return Listener(self.edge.a, name), Listener(self.edge.b, name)

    def listener(self, node: Node, number: int) -> Listener:
        """The listener of a written port at a host; it has no tunnel while the host has its other key."""
        name = f"{self.edge.name}/{number}"
        found = (end for _, pairs in self.tunnels for pair in pairs for end in pair if end.name == name)
        return next((end for end in found if end.node is node), Listener(node, name))


def build_links(fabric: Fabric) -> None:
    """Add every edge of the fabric, with the ports and endpoints of its tunnels."""
    doc = fabric.desired.fabric
    if doc is None:
        return
    pool = PortPool(fabric, doc.model.defaults.ports)
    links = list(_links(fabric, doc))
    backbone, exits = other_devices(fabric), _exit_devices(fabric)
    served = [Listener(node, SITE_EXITS) for node in fabric.nodes.values() if node.served_exits]
    own = [device for _, devices in exits for device in devices]
    _give_ports(fabric, pool, links, [*backbone, *own, *served])
    for exit, devices in exits:
        exit.ports = tuple(device.port for device in devices)
    for device in served:
        device.node.ports[SITE_EXITS] = device.port
    for link in links:
        _connect(fabric, link)
    build_backbone(fabric, doc, backbone)
    _check_clients(fabric)


# Links


def _links(fabric: Fabric, doc: Located[desired.Fabric]) -> Iterator[_Link]:
    """Every link between two hosts, once."""
    seen: dict[str, Place] = {}
    for i, written in enumerate(doc.model.links):
        place = _placer(doc.place, i)
        for edge in _edges(fabric, written, doc.model.defaults, place):
            if edge.name in seen:
                hint = "one link can have many `tunnels`: keep one of the two"
                first = (seen[edge.name], "the first link")
                fabric.problem("GW047", place(), f"{edge.name} is linked already", hint, first)
                continue
            seen[edge.name] = place()
            yield _Link(edge, written, place)


def _placer(place: Callable[..., Place], i: int) -> Callable[..., Place]:
    return lambda *loc, key=False: place("links", i, *loc, key=key)


def _edges(
    fabric: Fabric, link: desired.Link, defaults: desired.Defaults, place: Callable[..., Place]
) -> list[GraphEdge]:
    """One edge for every two hosts at its ends. Unknown names were reported where names are checked."""
    pairs = list(product(*(fabric.ends(name) for name in link.between)))
    if same := [a for a, b in pairs if a is b]:
        fabric.problem("GW046", place("between"), f"a link from {same[0].name} to itself", "name two different hosts")
        return []
    if link.weights and len(link.weights) != link.tunnels:
        message = f"{len(link.weights)} weights for {link.tunnels} tunnels"
        fabric.problem("GW048", place("weights"), message, "write one weight for each tunnel")
    if link.ports and len(pairs) > 1:
        hint = "leave them to the lock: a gateway has tunnels to every gateway at the other end"
        fabric.problem("GW105", place("ports"), "written ports for a link of several gateways", hint)
        return []
    keepalive = defaults.keepalive if link.keepalive is None else link.keepalive
    bundle: list[GraphEdge] = []
    for a, b in pairs:
        edge = GraphEdge("link", a, b, keepalive=round(keepalive), weights=link.weights, bundle=bundle)
        edge.grouped = any(fabric.group(node) for node in (a, b))
        edge.health = _health(link.health, defaults.health)
        edge.mtu = tunnel_mtu(fabric, edge, link.mtu or defaults.mtu, place)
        bundle.append(edge)
    return bundle


def _health(own: desired.Health | None, defaults: desired.Health) -> desired.Health:
    if own is None:
        return defaults
    return defaults.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


# Ports


def _give_ports(fabric: Fabric, pool: PortPool, links: list[_Link], devices: list[Listener]) -> None:
    """Give ports to all tunnels and devices. Succeeding pairs of keys come last, so that they move no other port."""
    for link in links:
        _fix_ports(fabric, pool, link)
    for link in links:
        check_turns(fabric, link.edge, link.place, written_ports=bool(link.written.ports))
    wanted = [(link.edge, of_turn[1]) for turn in (0, 1) for link in links for of_turn in link.tunnels[turn : turn + 1]]
    for _, pairs in wanted:
        for listener in (end for pair in pairs for end in pair):
            pool.lock(listener)
    for listener in devices:
        pool.lock(listener)
    for edge, pairs in wanted:
        pool.spread(edge, pairs)
    for listener in devices:
        pool.next(listener)


def _fix_ports(fabric: Fabric, pool: PortPool, link: _Link) -> None:
    for name, ports in link.written.ports.items():
        node = fabric.resolve(name)
        if node is None:
            continue
        if len(ports) != link.written.tunnels:
            message = f"{len(ports)} ports for {link.written.tunnels} tunnels"
            fabric.problem("GW042", link.place("ports", name), message, "write one port for each tunnel")
        for n, port in enumerate(ports[: link.written.tunnels], 1):
            pool.fix(link.listener(node, n), port, link.place("ports", name, n - 1))


def _exit_devices(fabric: Fabric) -> list[tuple[HostExit, list[Listener]]]:
    """Every exit with its devices."""
    nodes = fabric.nodes.values()
    return [(exit, [Listener(node, dev) for dev in exit.devs]) for node in nodes for exit in node.exits]


# Tunnels


def _connect(fabric: Fabric, link: _Link) -> None:
    """Build the tunnels of a link, with their devices and endpoints."""
    edge = link.edge
    a, b = edge.a, edge.b
    hint = "give one of them a `public:` address or name, of a family that the other has too"
    dialling = Dialling.of(fabric, edge, link.place("between"), hint)
    for turn, pairs in link.tunnels:
        for n, (at_a, at_b) in enumerate(pairs, 1):
            dev_a, dev_b = (f"wg-{other.label}-{n}{turn.letter}" for other in (b, a))
            dialling.add_tunnel(at_a.name, turn, (dev_a, at_a.port), (dev_b, at_b.port))
            _check_name(fabric, a, b, dev_a)
            _check_name(fabric, b, a, dev_b)
        ride(fabric, edge, turn.tunnels, bool(link.written.ports), link.place)
    fabric.add(edge)


def _check_name(fabric: Fabric, node: Node, other: Node, dev: str) -> None:
    if len(dev.encode()) > IFNAMSIZ:
        message = f"the interface {dev!r} on {node.name} would have {len(dev)} bytes, {IFNAMSIZ} fit"
        hint = f"give {other.name} a shorter name in interfaces: `short: {other.label[:6].strip('-')}`"
        fabric.problem("GW041", other.place(key=True), message, hint)
    if dev in (node.model.underlay.dev, *node.model.lans) or dev in node.ports or dev in node.devices:
        hint = f"rename the interface, or give {other.name} a `short:` name"
        fabric.problem("GW045", node.place(key=True), f"{node.name} has two interfaces called {dev}", hint)
    node.devices.add(dev)


def _check_clients(fabric: Fabric) -> None:
    for _, roamer in sorted(fabric.clients.items()):
        node = fabric.nodes[roamer.gateway]
        if reach(node, None) is None:
            hint = f"give {node.name}'s underlay a `public:` address or name"
            message = f"{roamer.name} cannot dial its gateway {node.name}"
            other = (node.place("underlay"), "its underlay")
            fabric.problem("GW053", roamer.doc.place("gateway"), message, hint, other)


def leave_out(fabric: Fabric) -> None:
    """Leave out hosts without a key: no plan, and no edges at their neighbours. Their numbers stay reserved."""
    missing = {name for name, node in fabric.nodes.items() if node.key is None}
    if not missing:
        return

    def whole(edge: GraphEdge) -> bool:
        return not missing & {edge.a.name, edge.b.name}

    fabric.edges = [edge for edge in fabric.edges if whole(edge)]
    for node in fabric.nodes.values():
        node.edges = [edge for edge in node.edges if whole(edge)]
