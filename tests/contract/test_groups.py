"""How the kernel shares flows among the members of a resilient group: its buckets, and packets."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from reconciler.system.netlink import Netlink
from reconciler.system.nexthop import NexthopDriver
from schema.plan import Change, Member, Nexthop, Resilient
from tests.contract.conftest import needs_root
from tests.namespaces import ip, private_network, run

pytestmark = pytest.mark.root

FLOWS = 5000
SO_RCVBUFFORCE = 33


def apply(driver: NexthopDriver, *changes: tuple[Nexthop | None, Nexthop]) -> None:
    assert driver.apply([Change(before, after) for before, after in changes]) == []


def ways(count: int) -> list[Nexthop]:
    """Cables without ARP, one for each member."""
    for n in range(1, count + 1):
        ip(f"link add way{n} type veth peer name far{n}")
        ip(f"link set way{n} up arp off")
        ip(f"link set far{n} up arp off")
    return [Nexthop(id=n, family="inet", dev=f"way{n}") for n in range(1, count + 1)]


def group(weights: Sequence[int], buckets: int = 1024, busy: int = 20) -> Nexthop:
    members = tuple(Member(id=n, weight=weight) for n, weight in enumerate(weights, 1) if weight)
    return Nexthop(id=1000, group=members, resilient=Resilient(buckets=buckets, idle_timer=5, unbalanced_timer=busy))


def buckets() -> Counter[int]:
    return Counter(int(found) for found in re.findall(r"nhid (\d+)", run("ip nexthop bucket show id 1000")))


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1), (2, 1, 1), (5, 3, 2, 1), (256, 1), (1,) * 32])
def test_shares_are_right_to_one_bucket(weights: Sequence[int]) -> None:
    needs_root()
    with private_network():
        driver = NexthopDriver(Netlink())
        apply(driver, *((None, way) for way in ways(len(weights))), (None, group(weights)))
        found = buckets()
        for n, weight in enumerate(weights, 1):
            assert abs(found[n] - 1024 * Fraction(weight, sum(weights))) <= 1


def test_a_hundred_tunnels() -> None:
    needs_root()
    with private_network():
        driver = NexthopDriver(Netlink())
        apply(driver, *((None, way) for way in ways(100)), (None, group((1,) * 100, 8192)))
        assert set(buckets().values()) == {81, 82}


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 2, 1)])
def test_flows_are_shared_by_weight_and_those_of_a_member_that_stays_do_not_move(weights: Sequence[int]) -> None:
    needs_root()
    with private_network():
        Path("/proc/sys/net/ipv4/fib_multipath_hash_policy").write_text("1")
        driver = NexthopDriver(Netlink())
        apply(driver, *((None, way) for way in ways(3)), (None, group(weights)))
        ip("address add 10.0.0.1/32 dev lo")
        ip("route add 10.9.0.0/16 nhid 1000 src 10.0.0.1")
        first = flows()
        shares = Counter(first.values())
        for n, weight in enumerate(weights, 1):
            assert shares[f"way{n}"] == pytest.approx(FLOWS * weight / sum(weights), rel=0.1)
        apply(driver, (group(weights), group((weights[0], weights[1], 0))))
        second = flows()
        assert {port for port in first if first[port] != second[port]} == {
            port for port, way in first.items() if way == "way3"
        }


def flows() -> dict[int, str]:
    """Which way the packets of each flow (one per destination port) leave by."""
    seen: dict[int, str] = {}
    listeners = {}
    for n in (1, 2, 3):
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        listener.bind((f"far{n}", 0x0800))
        listeners[f"way{n}"] = listener
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("10.0.0.1", 4000))
        for port in range(10_000, 10_000 + FLOWS):
            sender.sendto(b"", ("10.9.0.1", port))
    for way, listener in listeners.items():
        listener.setblocking(False)
        while True:
            try:
                packet = listener.recv(64)
            except BlockingIOError:
                break
            seen[int.from_bytes(packet[22:24], "big")] = way
        listener.close()
    assert len(seen) == FLOWS, "a veth hands packets on within the call that sends them"
    return seen
