"""A description of the lab's network: namespaces, wires, addresses and NAT rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lab.impairment import Impairment
from schema.ip import Prefix

Role = Literal["router", "host", "workload", "client", "git", "provider"]
SPARE = "lan-new"
"""An interface without addresses on one host, for a subnet that is added while the lab runs."""
GIT_ADDRESS, GIT_ADDRESS6 = "198.18.0.2", "2001:2:0:1::2"
"""The git server's addresses, from the ranges for benchmarks (RFC 2544, RFC 5180)."""
INTERNET = "internet"


@dataclass(slots=True)
class Namespace:
    """A network namespace: lines for `ip -batch`, and lines for the nat tables of both iptables-restore commands."""

    name: str
    role: Role
    ip: list[str] = field(default_factory=list)
    nat: list[str] = field(default_factory=list)
    nat6: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wire:
    """A veth pair: (namespace, interface) at both ends."""

    a: tuple[str, str]
    b: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pinger:
    """A machine on a network that can send and answer pings."""

    network: str
    """The name of the network for people: a site or a client."""
    space: str
    addresses: dict[int, str]


@dataclass(slots=True)
class Blueprint:
    """The whole lab."""

    spaces: dict[str, Namespace] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    endpoints: list[Pinger] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """DNS name -> address, for public endpoints that are names."""
    names6: dict[str, str] = field(default_factory=dict)
    """DNS name -> IPv6 address, in addition to `names`."""
    notes: list[str] = field(default_factory=list)
    """Differences between the lab and the real network, for people."""
    bridges: dict[tuple[str, Prefix], str] = field(default_factory=dict)
    """(router, network) -> the bridge on the router that hosts of the network share."""
    lines: dict[str, tuple[Impairment, tuple[str, str], tuple[str, str]]] = field(default_factory=dict)
    """Wires with a distance, by name: (space, TUN device) at both ends."""
    spare: tuple[str, str] | None = None
    """(host, workload): the two ends of the spare interface."""

    def space(self, name: str, role: Role) -> Namespace:
        return self.spaces.setdefault(name, Namespace(name, role, ["link set lo up"]))

    def wire(self, a: tuple[str, str], b: tuple[str, str]) -> None:
        self.wires.append(Wire(a, b))
        for space, dev in (a, b):
            self.spaces[space].ip.append(f"link set {dev} up")

    def address(self, space: str, dev: str, text: str) -> None:
        # A duplicate address detection would make the address unusable for a second.
        nodad = " nodad" if ":" in text else ""
        self.spaces[space].ip.append(f"address add {text} dev {dev}{nodad}")

    def default(self, space: str, via: str) -> None:
        self.spaces[space].ip.append(f"route add default via {via}")
