"""The places of the simulated servers: their addresses, their distances, and their part of the lab's network. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from compiler.fabric.model import Fabric
from lab.blueprint import INTERNET, Blueprint
from lab.impairment import Impairment

TwinKind = Literal["pia", "mullvad"]
OUTSIDE = "outside"
OUTSIDE_NAME = "whoami.example"
"""A service that returns the address that it sees, over HTTP."""
API_NAMES: dict[TwinKind, tuple[str, ...]] = {
    "pia": ("www.privateinternetaccess.com", "serverlist.piaservers.net"),
    "mullvad": ("api.mullvad.net",),
}
"""Providers that the lab can simulate -> the DNS names of their services."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A server of a provider: a namespace with a tunnel for its customers, behind its own line."""

    kind: TwinKind
    number: int
    region: str
    title: str
    country: str
    server: str
    """For PIA the common name of its certificate, for Mullvad its host name."""
    delay: float
    """Seconds, one way."""
    forwards: bool = False

    @property
    def id(self) -> str:
        """The name of the gate in the adapters, and of its line."""
        return f"{self.region}/{self.server}"

    @property
    def space(self) -> str:
        return f"{self.kind}-{self.server}"

    @property
    def address(self) -> str:
        return _address(self.number, 2)

    @property
    def address6(self) -> str:
        return f"2001:db8:fe:{self.number:x}::2"

    @property
    def tunnel(self) -> str:
        """The gate's WireGuard device. Its name is unique."""
        return f"exit{self.number}"

    @property
    def port(self) -> int:
        return 1337 if self.kind == "pia" else 51820


def _gates() -> tuple[Gate, ...]:
    pia: tuple[tuple[str, str, str, str, float, bool], ...] = (
        ("uk", "UK London", "GB", "london401", 0.007, True),
        ("uk", "UK London", "GB", "london402", 0.010, True),
        # Nearer than all others, to test `ignore`.
        ("uk_2", "UK Southampton", "GB", "southampton401", 0.004, True),
        ("nl_amsterdam", "Netherlands", "NL", "amsterdam401", 0.012, True),
        ("de-frankfurt", "DE Frankfurt", "DE", "frankfurt401", 0.018, True),
        ("us_east", "US East", "US", "newjersey401", 0.045, False),
        ("japan", "JP Tokyo", "JP", "tokyo401", 0.115, True),
    )
    mullvad: tuple[tuple[str, str, str, str, float], ...] = (
        ("se-mma", "Malmö", "Sweden", "se-mma-wg-001", 0.009),
        ("se-mma", "Malmö", "Sweden", "se-mma-wg-002", 0.010),
        ("ch-zrh", "Zurich", "Switzerland", "ch-zrh-wg-001", 0.014),
        ("no-osl", "Oslo", "Norway", "no-osl-wg-001", 0.020),
        ("us-nyc", "New York, NY", "USA", "us-nyc-wg-001", 0.040),
        ("jp-tyo", "Tokyo", "Japan", "jp-tyo-wg-001", 0.120),
    )
    first = [Gate("pia", n, *place) for n, place in enumerate(pia)]
    return (*first, *(Gate("mullvad", n, *place) for n, place in enumerate(mullvad, len(first))))


GATES = _gates()
API_NUMBER: dict[TwinKind, int] = {"pia": 100, "mullvad": 101}
OUTSIDE_NUMBER = 102


def _address(number: int, host: int) -> str:
    """An address in the upper quarter of 198.18.0.0/15, which nothing else in the lab uses."""
    return f"198.19.{128 + number}.{host}"


OUTSIDE_ADDRESS = _address(OUTSIDE_NUMBER, 2)
OUTSIDE_ADDRESS6 = f"2001:db8:fe:{OUTSIDE_NUMBER:x}::2"


def api_space(kind: TwinKind) -> str:
    return f"{kind}-api"


def api_address(kind: TwinKind) -> str:
    return _address(API_NUMBER[kind], 2)


def gates_of(kinds: Collection[str]) -> list[Gate]:
    return [gate for gate in GATES if gate.kind in kinds]


def kinds_of(fabric: Fabric) -> list[TwinKind]:
    """The providers of the network's exits that the lab can simulate."""
    named = {way.model.provider for node in fabric.nodes.values() for way in node.exits}
    return [kind for kind in sorted(API_NAMES) if kind in named]


def unplayed(fabric: Fabric) -> str:
    """Why the lab cannot simulate the exits of a network, in one sentence; empty if it can."""
    for _, node in sorted(fabric.nodes.items()):
        for way in node.exits:
            facts = way.model.facts
            if facts.discovers and facts.name not in API_NAMES:
                text = f"the exit {way.name} of {node.name} is of the provider {facts.name}, which the lab cannot play"
                return f"{text}: it has twins of {' and '.join(sorted(API_NAMES))}; remove the exit for the lab"
    return ""


def add(plan: Blueprint, fabric: Fabric) -> None:
    """Add the parts of the internet that the network's exits need; nothing if it has no exits."""
    ways = [(node, way) for _, node in sorted(fabric.nodes.items()) for way in node.exits]
    if not ways:
        return
    checks = {urlsplit(way.model.health.check).hostname or "" for _, way in ways}
    draw(plan, kinds_of(fabric), sorted(name for name in checks if re.search("[a-z]", name)))
    for node, way in ways:
        if way.model.facts.needs == "gateways":
            plan.notes.append(f"{node.name}: nobody plays the gateways of the exit {way.name}, whose keys are others'")


def draw(plan: Blueprint, kinds: Collection[TwinKind], names: Iterable[str] = ()) -> None:
    """Add the servers of these providers to the lab's internet, and a service that returns the address that it sees.

    `names` are further DNS names of this service.
    """
    _uplink(plan, OUTSIDE, OUTSIDE_NUMBER)
    plan.spaces[OUTSIDE].role = "workload"
    ours = (OUTSIDE_NAME, *names)
    plan.names |= dict.fromkeys(ours, OUTSIDE_ADDRESS)
    # As on the internet, the first address of a name belongs to this service.
    plan.names6 |= dict.fromkeys(ours, OUTSIDE_ADDRESS6)
    plan.notes += [f"{kind} is a service of the lab, with {len(gates_of([kind]))} gateways" for kind in sorted(kinds)]
    for kind in sorted(kinds):
        _uplink(plan, api_space(kind), API_NUMBER[kind])
        plan.names |= {name: api_address(kind) for name in API_NAMES[kind]}
    for gate in gates_of(kinds):
        _gate(plan, gate)


def _uplink(plan: Blueprint, space: str, number: int) -> None:
    plan.space(space, "provider")
    port = f"x{number}"
    plan.wire((INTERNET, port), (space, "eth0"))
    plan.address(INTERNET, port, f"{_address(number, 1)}/24")
    plan.address(INTERNET, port, f"2001:db8:fe:{number:x}::1/64")
    plan.address(space, "eth0", f"{_address(number, 2)}/24")
    plan.address(space, "eth0", f"2001:db8:fe:{number:x}::2/64")
    plan.default(space, _address(number, 1))
    plan.default(space, f"2001:db8:fe:{number:x}::1")


def _gate(plan: Blueprint, gate: Gate) -> None:
    """Add a gate. Its line is two TUN devices, and `lab/relay.py` forwards packets between them."""
    space = plan.space(gate.space, "provider")
    far, near = f"x{gate.number}", "wan"
    for lines, dev in ((plan.spaces[INTERNET].ip, far), (space.ip, near)):
        lines += [f"tuntap add dev {dev} mode tun", f"link set {dev} up"]
    plan.address(gate.space, near, f"{gate.address}/32")
    plan.address(gate.space, near, f"{gate.address6}/128")
    plan.spaces[INTERNET].ip += [f"route add {address} dev {far}" for address in (gate.address, gate.address6)]
    space.ip += ["route add default dev wan", "route add ::/0 dev wan"]
    for nat in (space.nat, space.nat6):
        nat.append("-A POSTROUTING -o wan -j MASQUERADE")
    plan.lines[gate.id] = (Impairment(delay=gate.delay), (INTERNET, far), (gate.space, near))
