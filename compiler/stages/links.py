"""Links: which hosts, over which devices, ports and endpoints, with which MTU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from compiler.fabric.bonds import ride
from compiler.fabric.model import Edge, Fabric, Node, endpoint_text
from compiler.fabric.reach import reach, versions
from compiler.fabric.tunnel import End, Tunnel
from compiler.stages.ports import BACKBONE, Ports
from schema.desired import fabric as desired
from schema.plan.exits import EXITS
from schema.problem import Place

OVERHEAD = {4: 60, 6: 80}
"""Outer IP header, UDP and WireGuard's data message: 20 or 40, 8, and 32 bytes (wireguard.com/protocol)."""
MIN_MTU = 1280
IFNAMSIZ = 15


def build_links(fabric: Fabric) -> None:
    """Every edge of the fabric, with the ports and endpoints of each of its tunnels."""
    doc = fabric.desired.fabric
    if doc is None:
        return
    ports = Ports(fabric, doc.model.defaults.ports)
    links = []
    seen: dict[str, Place] = {}
    for i, link in enumerate(doc.model.links):
        place: Callable[..., Place] = _placer(doc.place, i)
        for edge in _link(fabric, link, doc.model.defaults, place):
            if edge.name in seen:
                hint = "one link can have many `tunnels`: keep one of the two"
                fabric.problem(
                    "GW047", place(), f"{edge.name} is linked already", hint, (seen[edge.name], "the first link")
                )
                continue
            seen[edge.name] = place()
            links.append((edge, link, place))
    ports.take_fixed(links)
    for edge, link, place in links:
        _rotatable(fabric, edge, link, place)
    # What takes over comes after all that is in use, and moves none of it.
    wanted = [(edge, _names(edge, link, turn)) for turn in (0, 1) for edge, link, _ in links]
    devices = [*_mesh_ports(fabric), *_exit_devices(fabric)]
    for edge, names in wanted:
        for name in names:
            ports.take_locked(edge.a, name)
            ports.take_locked(edge.b, name)
    for node, dev in devices:
        ports.take_locked(node, dev)
    for edge, names in wanted:
        ports.take_tunnels(edge, names)
    for node, dev in devices:
        ports.take_next(node, dev)
    _exit_ports(fabric, ports)
    for edge, link, place in links:
        _tunnels(fabric, edge, link, ports, place)
    _mesh(fabric, doc.model.defaults, ports)
    _gateways(fabric)


def _placer(place: Callable[..., Place], i: int) -> Callable[..., Place]:
    return lambda *loc, key=False: place("links", i, *loc, key=key)


def _link(fabric: Fabric, link: desired.Link, defaults: desired.Defaults, place: Callable[..., Place]) -> list[Edge]:
    """One edge for every two hosts at its ends; a name that is not known was found where names are checked."""
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
    bundle: list[Edge] = []
    for a, b in pairs:
        edge = Edge("link", a, b, keepalive=round(keepalive), weights=link.weights, bundle=bundle)
        edge.grouped = any(fabric.group(node) for node in (a, b))
        edge.health = _health(link.health, defaults.health)
        edge.mtu = _mtu(fabric, edge, link.mtu or defaults.mtu, place)
        bundle.append(edge)
    return bundle


def _health(own: desired.Health | None, defaults: desired.Health) -> desired.Health:
    if own is None:
        return defaults
    return defaults.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _mtu(fabric: Fabric, edge: Edge, wanted: int | None, place: Callable[..., Place]) -> int:
    underlay = min(edge.a.model.underlay.mtu, edge.b.model.underlay.mtu)
    version = 6 if 6 in versions(edge.a.model.underlay) & versions(edge.b.model.underlay) else 4
    if wanted is not None and wanted > underlay - OVERHEAD[version]:
        message = f"an MTU of {wanted} does not fit into {underlay} bytes of underlay"
        hint = f"WireGuard over IPv{version} takes {OVERHEAD[version]} bytes: at most {underlay - OVERHEAD[version]}"
        fabric.problem("GW043", place("mtu"), message, hint)
    mtu = wanted or underlay - OVERHEAD[6]
    if mtu < MIN_MTU:
        message = f"{underlay} bytes of underlay between {edge.a.name} and {edge.b.name} leave {mtu} to a tunnel"
        hint = f"IPv6 needs {MIN_MTU} (RFC 8200, 5): write a larger `mtu:` for the underlay, or for the link"
        fabric.problem("GW043", place("mtu"), message, hint)
    return mtu


def _tunnels(fabric: Fabric, edge: Edge, link: desired.Link, ports: Ports, place: Callable[..., Place]) -> None:
    a, b = edge.a, edge.b
    to_b, to_a = reach(b, a), reach(a, b)
    if to_a is None and to_b is None:
        hint = "give one of them a `public:` address or name, of a family that the other has too"
        fabric.problem("GW044", place("between"), f"neither {a.name} nor {b.name} can be dialled by the other", hint)
    for turn in _turns(edge):
        for n in range(1, link.tunnels + 1):
            name = f"{edge.name}/{n}{turn.letter}"
            port_a, port_b = ports.given[a.name, name], ports.given[b.name, name]
            to_b_port, to_a_port = to_b and endpoint_text(to_b, port_b), to_a and endpoint_text(to_a, port_a)
            end_a = End(f"wg-{b.label}-{n}{turn.letter}", port_a, to_b_port, turn.key_a, turn.key_b)
            end_b = End(f"wg-{a.label}-{n}{turn.letter}", port_b, to_a_port, turn.key_b, turn.key_a)
            turn.into.append(Tunnel(name, {a.name: end_a, b.name: end_b}))
            for node, other, end in ((a, b, end_a), (b, a, end_b)):
                _check_name(fabric, node, other, end.dev)
        ride(fabric, edge, turn.into, bool(link.ports), place)
    fabric.edges.append(edge)
    a.edges.append(edge)
    b.edges.append(edge)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A pair of keys at the two ends of an edge, and what tells its tunnels from those of the pair before it."""

    number_a: int
    number_b: int
    key_a: str | None
    key_b: str | None
    into: list[Tunnel]

    @property
    def letter(self) -> str:
        return "b" if (self.number_a + self.number_b) % 2 else ""


def _turns(edge: Edge) -> list[_Turn]:
    """The pair of keys in use, and while one end rotates its key, the pair that takes over."""
    a, b = edge.a, edge.b
    found = [_Turn(a.number, b.number, a.key, b.key, edge.tunnels)]
    if a.next_key:
        found.append(_Turn(a.number + 1, b.number, a.next_key, b.key, edge.successors))
    elif b.next_key:
        found.append(_Turn(a.number, b.number + 1, a.key, b.next_key, edge.successors))
    return found


def _names(edge: Edge, link: desired.Link, number: int) -> list[str]:
    """The tunnels of an edge with the pair of keys in use (0), and with the one that takes over (1)."""
    turns = _turns(edge)[number : number + 1]
    return [f"{edge.name}/{n}{turn.letter}" for turn in turns for n in range(1, link.tunnels + 1)]


def _rotatable(fabric: Fabric, edge: Edge, link: desired.Link | None, place: Callable[..., Place]) -> None:
    """One end at a time; and what is written for the ports of a link holds for every second pair of keys."""
    if edge.a.next_key and edge.b.next_key:
        message = f"{edge.a.name} and {edge.b.name} rotate their keys at the same time, and are linked"
        hint = "finish one before you begin with the other: remove one's new key until then"
        fabric.problem("GW088", place(), message, hint)
    if link is not None and link.ports and any(turn.letter for turn in _turns(edge)):
        message = f"the written ports of {edge.name} hold for every second key of its hosts only"
        fabric.warning("GW089", place("ports"), message, "the tunnels of the others take their ports from the lock")


def _check_name(fabric: Fabric, node: Node, other: Node, dev: str) -> None:
    if len(dev.encode()) > IFNAMSIZ:
        message = f"the interface {dev!r} on {node.name} would have {len(dev)} bytes, {IFNAMSIZ} fit"
        hint = f"give {other.name} a shorter name in interfaces: `short: {other.label[:6].strip('-')}`"
        fabric.problem("GW041", other.place(key=True), message, hint)
    if dev in (node.model.underlay.dev, *node.model.lans) or dev in node.ports or dev in node.devices:
        hint = f"rename the interface, or give {other.name} a `short:` name"
        fabric.problem("GW045", node.place(key=True), f"{node.name} has two interfaces called {dev}", hint)
    node.devices.add(dev)


def _device_of(own: int, far: int) -> str:
    """The device for peers with a key of one number, by the number of the host's own.

    A device has one key, and two keys of one peer want the same addresses: both ways have devices of their own.
    """
    return BACKBONE + {(1, 1): "", (0, 1): "-b", (1, 0): "-c", (0, 0): "-d"}[own % 2, far % 2]


def _mesh_ports(fabric: Fabric) -> list[tuple[Node, str]]:
    """Devices of the backbone that have no port in writing."""
    found: dict[tuple[Node, str], None] = {}
    for i, a in enumerate(fabric.backbone):
        for b in fabric.backbone[i + 1 :]:
            for turn in _turns(Edge("backbone", a, b)):
                found[a, _device_of(turn.number_a, turn.number_b)] = None
                found[b, _device_of(turn.number_b, turn.number_a)] = None
    return [(node, dev) for node, dev in found if dev != BACKBONE]


def _exit_devices(fabric: Fabric) -> list[tuple[Node, str]]:
    """Devices of exits, and for those of other hosts."""
    own = [(node, dev) for node in fabric.nodes.values() for way in node.exits for dev in way.devs]
    return own + [(node, EXITS) for node in fabric.nodes.values() if node.egress]


def _exit_ports(fabric: Fabric, ports: Ports) -> None:
    for node in fabric.nodes.values():
        for way in node.exits:
            way.ports = tuple(ports.given[node.name, dev] for dev in way.devs)
        if node.egress:
            node.ports[EXITS] = ports.given[node.name, EXITS]


def _mesh(fabric: Fabric, defaults: desired.Defaults, ports: Ports) -> None:
    """A link between every two members of the backbone, all on one device of each."""
    doc = fabric.desired.fabric
    assert doc is not None
    place, members = doc.place, fabric.backbone
    linked = {edge.name for edge in fabric.edges if edge.kind == "link"}
    for i, a in enumerate(members):
        for b in members[i + 1 :]:
            edge = Edge("backbone", a, b, keepalive=round(defaults.keepalive))
            if edge.name in linked:
                continue
            edge.mtu = _mtu(fabric, edge, defaults.mtu, lambda *loc, **_: place("defaults", *loc))
            to_b, to_a = reach(b, a), reach(a, b)
            if to_a is None and to_b is None:
                hint = "give one of them a `public:` address or name"
                message = f"neither {a.name} nor {b.name} can be dialled by the other"
                fabric.problem("GW044", place("backbone"), message, hint)
            _rotatable(fabric, edge, None, lambda: place("backbone"))
            for turn in _turns(edge):
                dev_a, dev_b = _device_of(turn.number_a, turn.number_b), _device_of(turn.number_b, turn.number_a)
                port_a, port_b = ports.of(a, dev_a), ports.of(b, dev_b)
                to_b_port, to_a_port = to_b and endpoint_text(to_b, port_b), to_a and endpoint_text(to_a, port_a)
                end_a = End(dev_a, port_a, to_b_port, turn.key_a, turn.key_b)
                end_b = End(dev_b, port_b, to_a_port, turn.key_b, turn.key_a)
                turn.into.append(Tunnel(f"{edge.name}/backbone{turn.letter}", {a.name: end_a, b.name: end_b}))
            fabric.edges.append(edge)
            a.edges.append(edge)
            b.edges.append(edge)


def _gateways(fabric: Fabric) -> None:
    for _, roamer in sorted(fabric.clients.items()):
        node = fabric.nodes[roamer.gateway]
        if reach(node, None) is None:
            hint = f"give {node.name}'s underlay a `public:` address or name"
            message = f"{roamer.name} cannot dial its gateway {node.name}"
            fabric.problem(
                "GW053", roamer.doc.place("gateway"), message, hint, (node.place("underlay"), "its underlay")
            )


def leave_out(fabric: Fabric) -> None:
    """A host without a key has no plan, and its neighbours nothing that leads to it; its numbers stay its own."""
    missing = {name for name, node in fabric.nodes.items() if node.key is None}
    if not missing:
        return

    def whole(edge: Edge) -> bool:
        return not missing & {edge.a.name, edge.b.name}

    fabric.edges = [edge for edge in fabric.edges if whole(edge)]
    for node in fabric.nodes.values():
        node.edges = [edge for edge in node.edges if whole(edge)]
