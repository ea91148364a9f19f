"""A network's twin on paper: which namespaces, wires, addresses and translations. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lab.relay import Line
from schema.ip import Prefix

Role = Literal["router", "host", "workload", "client", "git", "provider"]
SPARE = "lan-new"
"""An interface without addresses on one host, for a subnet that is added while the lab runs."""
GIT_ADDRESS, GIT_ADDRESS6 = "198.18.0.2", "2001:2:0:1::2"
"""Of the git server, out of what is set aside for benchmarks (RFC 2544, RFC 5180)."""
INTERNET = "internet"


@dataclass(slots=True)
class Space:
    """One network namespace: `ip -batch` lines, and lines for the nat tables of both iptables-restore."""

    name: str
    role: Role
    ip: list[str] = field(default_factory=list)
    nat: list[str] = field(default_factory=list)
    nat6: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wire:
    """A pair of virtual ethernet ports: (space, interface) at both ends."""

    a: tuple[str, str]
    b: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Something on a network that pings and is pinged."""

    network: str
    """What people call it: a site or a client."""
    space: str
    addresses: dict[int, str]


@dataclass(slots=True)
class Blueprint:
    """The whole twin."""

    spaces: dict[str, Space] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    endpoints: list[Endpoint] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """DNS name -> address, for public endpoints that are names."""
    names6: dict[str, str] = field(default_factory=dict)
    """DNS name -> IPv6 address beside that."""
    notes: list[str] = field(default_factory=list)
    """What the lab does otherwise than the real network would."""
    bridges: dict[tuple[str, Prefix], str] = field(default_factory=dict)
    """(router, network) -> the bridge that hosts of the network share there."""
    lines: dict[str, tuple[Line, tuple[str, str], tuple[str, str]]] = field(default_factory=dict)
    """Wires with a distance, by name: (space, TUN device) at both ends."""
    spare: tuple[str, str] | None = None
    """(host, workload) between which the spare interface lies."""

    def space(self, name: str, role: Role) -> Space:
        return self.spaces.setdefault(name, Space(name, role, ["link set lo up"]))

    def wire(self, a: tuple[str, str], b: tuple[str, str]) -> None:
        self.wires.append(Wire(a, b))
        for space, dev in (a, b):
            self.spaces[space].ip.append(f"link set {dev} up")

    def address(self, space: str, dev: str, text: str) -> None:
        # A duplicate address check would leave it unusable for a second.
        nodad = " nodad" if ":" in text else ""
        self.spaces[space].ip.append(f"address add {text} dev {dev}{nodad}")

    def default(self, space: str, via: str) -> None:
        self.spaces[space].ip.append(f"route add default via {via}")
