"""The resolved network, with every name, address, key, port and link. Stages fill it in; plans read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from compiler.fabric.tunnel import Tunnel
from schema.desired import Client, Documents, Exit, Gateways, Host, Located, Site
from schema.desired.fabric import Health
from schema.desired.secret import RESERVED
from schema.ip import BITS, Interface, Prefix, address_text
from schema.lock import Entry
from schema.plan import Marks, SecretRef
from schema.problem import Place, Problem, Problems


@dataclass(slots=True, eq=False)
class Node:
    """A host with an agent."""

    name: str
    site: str
    model: Host
    doc: Located[Site]
    label: str
    """Stands for the host in the names of tunnels that lead to it."""
    key: str | None = None
    """The host's public key; of two, the older one, which others already know."""
    number: int = 1
    """The number of `key` among the host's keys, counted from its first."""
    next_key: str | None = None
    """The key that takes over while keys are rotated."""
    clients_key: SecretRef | None = None
    """The key of the device for roaming clients, if it is not the host's own key."""
    address: dict[int, int] = field(default_factory=dict)
    """Version -> the host's own address, the same on all its tunnels."""
    networks: list[Prefix] = field(default_factory=list)
    """The networks that are reached through this host: LANs, a VPC."""
    clients: list[Roamer] = field(default_factory=list)
    edges: list[GraphEdge] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    """Device of the backbone, for clients or for exits of other hosts -> listening port."""
    devices: set[str] = field(default_factory=set)
    """Names of the tunnels of links and exits."""
    exits: list[HostExit] = field(default_factory=list)
    """The host's exits to the internet, in the order in which they are written."""
    served_exits: list[HostExit] = field(default_factory=list)
    """The exits of other hosts that reach the internet here."""
    marks: Marks | None = None
    """The packet marks of a host with exits."""

    @property
    def hosts(self) -> list[Prefix]:
        """The host's own addresses, as /32 and /128 prefixes."""
        return [Prefix(version, value, BITS[version]) for version, value in sorted(self.address.items())]

    @property
    def prefixes(self) -> list[Prefix]:
        """All prefixes that others reach through this host."""
        return [*self.networks, *self.hosts, *(p for client in self.clients for p in client.prefixes)]

    def place(self, *loc: str | int, key: bool = False) -> Place:
        return self.doc.place("hosts", self.name, *loc, key=key)


@dataclass(slots=True, eq=False)
class Roamer:
    """A roaming client with its addresses."""

    name: str
    model: Client
    doc: Located[Client]
    gateway: str
    address: dict[int, int] = field(default_factory=dict)

    @property
    def prefixes(self) -> list[Prefix]:
        return [Prefix(version, value, BITS[version]) for version, value in sorted(self.address.items())]


@dataclass(slots=True, eq=False)
class HostExit:
    """An exit of a host, and its users."""

    host: str
    name: str
    model: Exit
    lans: tuple[str, ...]
    own: bool
    """Whether the host's own traffic uses it."""
    devs: tuple[str, ...]
    ports: tuple[int, ...] = ()
    """The listening ports of `devs`."""
    credentials: SecretRef | None = None
    gateways: list[str] = field(default_factory=list)
    """Our hosts through which this exit reaches the internet."""
    address: dict[int, int] = field(default_factory=dict)
    """Version -> the exit's own address at these hosts."""


@dataclass(slots=True, eq=False)
class GraphEdge:
    """A connection between two hosts: a link of tunnels, a pair in the backbone, or a shared LAN."""

    kind: Literal["link", "backbone", "lan"]
    a: Node
    b: Node
    tunnels: list[Tunnel] = field(default_factory=list)
    successors: list[Tunnel] = field(default_factory=list)
    """The same tunnels with the new key of one end, in addition to `tunnels` while keys are rotated."""
    psk: SecretRef | None = None
    mtu: int = 1420
    keepalive: int = 0
    weights: tuple[int, ...] = ()
    """The shares of flows of the tunnels, in their order; empty if all are equal."""
    health: Health = field(default_factory=Health)
    bundle: list[GraphEdge] = field(default_factory=list)
    """All edges of the same link; with groups at its ends, one for each pair of their gateways."""
    grouped: bool = False
    """Whether one of its ends is a gateway of a group."""
    via: dict[str, dict[int, str]] = field(default_factory=dict)
    """On a LAN: host -> version -> the other host's address there."""
    dev: dict[str, dict[int, str]] = field(default_factory=dict)
    """On a LAN: host -> version -> its interface."""

    @property
    def name(self) -> str:
        return "~".join(sorted((self.a.name, self.b.name)))

    @property
    def watched(self) -> bool:
        """Whether its tunnels are probed: that is useful if others can take the flows of a dead one."""
        return self.kind == "link" and (len(self.tunnels) > 1 or self.grouped)

    def local(self, node: Node) -> str:
        """The link-local address of an end, the same on all its tunnels."""
        return "fe80::1" if node.name == min(self.a.name, self.b.name) else "fe80::2"

    def other(self, node: Node) -> Node:
        return self.b if node is self.a else self.a


@dataclass(slots=True, eq=False)
class Segment:
    """A LAN with all gateways of a group on it."""

    devs: dict[str, str]
    """Host -> its interface on the LAN."""
    networks: list[Prefix] = field(default_factory=list)
    virtual: list[Interface] = field(default_factory=list)
    """The addresses that the active gateway has there besides its own."""


@dataclass(slots=True, eq=False)
class Group:
    """Gateways of a site that replace each other, by priority."""

    site: str
    nodes: list[Node]
    model: Gateways
    doc: Located[Site]
    segments: list[Segment] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Unit:
    """A node of the routing graph: a host, or all gateways of a group."""

    name: str
    nodes: list[Node]
    """Gateways by priority."""
    bundles: list[Bundle] = field(default_factory=list)
    shared: tuple[Bundle, list[Prefix]] | None = None
    """If the unit has one neighbour: the bundle to it, and all prefixes behind it."""

    @property
    def networks(self) -> list[Prefix]:
        """The networks that the unit is connected to or leads to."""
        lans = (address.network for node in self.nodes for lan in node.model.lans.values() for address in lan.addresses)
        return [*(network for node in self.nodes for network in node.networks), *lans]

    @property
    def prefixes(self) -> list[Prefix]:
        return [prefix for node in self.nodes for prefix in node.prefixes]


@dataclass(slots=True, eq=False)
class Bundle:
    """A connection between two units: all edges of one link, a pair in the backbone, or a shared LAN."""

    a: Unit
    b: Unit
    edges: list[GraphEdge]
    length: int = 0
    """Unique among competing bundles, so that traffic returns by the path that it came by."""

    @property
    def name(self) -> str:
        return min(edge.name for edge in self.edges)

    @property
    def kind(self) -> str:
        return self.edges[0].kind

    def other(self, unit: Unit) -> Unit:
        return self.b if unit is self.a else self.a

    def of(self, node: Node) -> list[GraphEdge]:
        """The edges of a host, by the priority of the hosts at their far ends."""
        far = {id(other): rank for unit in (self.a, self.b) for rank, other in enumerate(unit.nodes)}
        own = [edge for edge in self.edges if node in (edge.a, edge.b)]
        return sorted(own, key=lambda edge: far[id(edge.other(node))])


@dataclass(slots=True)
class Fabric:
    """The network, as far as the completed stages have decided it."""

    desired: Documents
    name: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    sites: dict[str, list[Node]] = field(default_factory=dict)
    """Gateways first, by priority, then other hosts by name."""
    groups: dict[str, Group] = field(default_factory=dict)
    """Site -> its gateways, if it has several."""
    clients: dict[str, Roamer] = field(default_factory=dict)
    edges: list[GraphEdge] = field(default_factory=list)
    backbone: list[Node] = field(default_factory=list)
    units: dict[Node, Unit] = field(default_factory=dict)
    """The unit that each host is a part of."""
    needs: dict[str, dict[str, Place]] = field(default_factory=dict)
    """Secret -> the hosts that need it, and the place where that is written."""
    lock: dict[Entry, int] = field(default_factory=dict)
    """The numbers in use, which the lock should hold."""
    problems: list[Problem] = field(default_factory=list)

    def problem(
        self, code: str, place: Place, message: str, hint: str = "", other: tuple[Place, str] | None = None
    ) -> None:
        self.problems.append(Problem(code, place, message, hint, (other,) if other else ()))

    def warning(self, code: str, place: Place, message: str, hint: str = "") -> None:
        self.problems.append(Problem(code, place, message, hint, severity="warning"))

    def add(self, edge: GraphEdge) -> None:
        """Add an edge, also to the hosts at both ends."""
        self.edges.append(edge)
        edge.a.edges.append(edge)
        edge.b.edges.append(edge)

    def group(self, node: Node) -> Group | None:
        """The group of gateways that a host belongs to."""
        group = self.groups.get(node.site)
        return group if group and node in group.nodes else None

    def barrier(self) -> None:
        """Raises Problems if there is an error that later stages cannot work with."""
        if any(p.severity == "error" and p.code not in LEAVES_OUT for p in self.problems):
            raise Problems(self.problems)

    def ends(self, name: str) -> list[Node]:
        """The hosts at an end of a link: all gateways of a site with several, otherwise the named host."""
        if name in self.groups:
            return self.groups[name].nodes
        node = self.resolve(name)
        return [node] if node else []

    def hosts(self, name: str) -> list[Node]:
        """Every host of a site, or the named host."""
        node = self.nodes.get(name)
        return self.sites.get(name) or ([node] if node else [])

    def resolve(self, name: str) -> Node | None:
        """The named host; a site stands for its first gateway, or its first host by name."""
        if name in self.sites:
            return self.sites[name][0]
        return self.nodes.get(name)


LEAVES_OUT = frozenset({"GW023"})
"""Errors that leave out one host and its neighbours' entries for it, and do not stop the fabric."""


def texts(prefixes: Iterable[Prefix]) -> tuple[str, ...]:
    """Prefixes as sorted text, as peers have them in a plan."""
    return tuple(sorted(map(str, prefixes)))


def address_of(version: int, value: int) -> str:
    """An address with the prefix length of a host."""
    return f"{address_text(version, value)}/{BITS[version]}"


def own_key(key: str | None) -> SecretRef:
    """A reference to a key of the plan's own host, by its public key."""
    assert key is not None
    return SecretRef(secret=RESERVED, fingerprint=key)
