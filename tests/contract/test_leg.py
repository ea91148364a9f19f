"""schema/leg.py against the counters of a real bond's legs."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from schema.leg import Sender
from schema.plan import BondOptions, Link
from tests.contract.bonding import joined, raise_far, real, shown, until
from tests.namespaces import ip

pytestmark = [pytest.mark.root, pytest.mark.kernel]
SOURCES = {4: ("192.0.2.1", "198.18.7.200", "10.255.0.9"), 6: ("2001:db8::1", "fd00:1:2:3:4:5:6:7", "2a00:1450::8:a")}
NEIGHBOUR = {4: "192.0.2.2", 6: "2001:db8::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
UNICAST = {4: (11 << 24, 100 << 24), 6: (0x2001 << 112, 0x3FFF << 112)}
FLOWS, PAYLOAD = 150, 1000
FRAME = {4: 14 + 20 + 8 + PAYLOAD, 6: 14 + 40 + 8 + PAYLOAD}
"""Bytes on a leg; what a kernel says of its own accord in the meantime is less than one of these."""


@pytest.fixture(params=[2, 3, 4], ids=lambda legs: f"kernel_bond-{legs}")
def legs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    count: int = request.param
    names = tuple(f"leg{n}" for n in range(count))
    bond = Link(name="bond0", type="bond", members=names, bond=BondOptions(mode="balance-xor", miimon=50))
    with joined(count):
        raise_far(count)
        real(tmp_path).made(bond)
        for version, sources in SOURCES.items():
            for source in sources:
                ip(f"address add {source}/{64 if version == 6 else 24} dev bond0{' nodad' if version == 6 else ''}")
            ip(f"neigh add {NEIGHBOUR[version]} lladdr 02:00:00:00:00:02 dev bond0")
            ip(f"-{version} route add default via {NEIGHBOUR[version]}")
        until(lambda: all(_slave(name)["mii_status"] == "UP" for name in names), "all legs have a carrier")
        yield count


def _slave(name: str) -> dict[str, str]:
    found: dict[str, str] = shown(name)["linkinfo"]["info_slave_data"]
    return found


def sent(count: int) -> list[int]:
    """Bytes, by leg."""
    return [shown(f"leg{n}")["stats64"]["tx"]["bytes"] for n in range(count)]


def send(version: int, source: str, port: int, destination: str, far_port: int) -> None:
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.bind((source, port))
        sender.sendto(bytes(PAYLOAD), (destination, far_port))


@pytest.mark.parametrize("version", [4, 6])
def test_every_packet_leaves_by_the_leg_that_is_computed(legs: int, version: int) -> None:
    draw = random.Random(legs * version)
    flows: dict[int, list[tuple[str, int, str, int]]] = {leg: [] for leg in range(legs)}
    for _ in range(FLOWS):
        source, port, far_port = draw.choice(SOURCES[version]), draw.randrange(1024, 65536), draw.randrange(1, 65536)
        destination = str(ip_address(draw.randrange(*UNICAST[version])))
        flow = (source, port, destination, far_port)
        flows[Sender.of(source, destination, legs).leg(port, far_port)].append(flow)
    assert min(map(len, flows.values())) > FLOWS // legs // 2
    for leg, those in flows.items():
        before = sent(legs)
        for flow in those:
            send(version, *flow)
        frames = [(now - then) // FRAME[version] for then, now in zip(before, sent(legs), strict=True)]
        assert frames == [len(those) if n == leg else 0 for n in range(legs)]
