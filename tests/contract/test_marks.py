"""Marks are set, saved, restored and looked up within their mask: the bits of others survive, and hinder nothing.

The others are kube-proxy and kubelet, which mark what they masquerade with 0x4000 and what they drop with 0x8000, in
packets and in flows.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compiler.compile import compile_files
from reconciler.converge.diff import Desired, diff
from reconciler.kinds import KINDS
from reconciler.state.inventory import Inventory
from reconciler.system import Context, drivers
from schema.plan import HostPlan, Resource, Route
from schema.plan.ranges import AGENT, EXIT_TABLES, EXIT_TUNNELS, SLOT_TABLES
from tests.contract.conftest import needs_root, secret
from tests.lab.twin import eventually
from tests.namespaces import ip, private_network, run

pytestmark = pytest.mark.root

KEY = "pKDfcOunqO0Wh9DaeO374yWTYZ1pmFloPkjsMHqAdJ0="
OURS, LAN_CLIENT, OUTSIDE, PORT = "192.0.2.10", "192.168.10.20", "198.51.100.1", 9999
THEIRS = (0x4000, 0x8000, 0xC000)


def plan_of(marks: str | None) -> HostPlan:
    """A host that takes an exit of which flows stay with their tunnel, as its LAN does."""
    gateway = {"endpoint": f"{OUTSIDE}:51820", "public_key": KEY, "addresses": "10.64.0.2"}
    exit = {"provider": "static", "gateways": {"g": gateway}, "dns": "9.9.9.9", "on_switch": "drain"}
    underlay = {"interface": "eth0", "addresses": [f"{OURS}/24"]}
    host = {"underlay": underlay, "lans": {"lan0": ["192.168.10.1/24"]}, "exits": {"vpn": exit}}
    fabric = {"fabric": "wan", "version": 1, **({"marks": marks} if marks else {})}
    site = {"site": "home", "kind": "edge", "hosts": {"nas": host}}
    files = {"fabric.yaml": fabric, "home.yaml": site}
    result = compile_files(
        {name: json.dumps(data).encode() for name, data in files.items()} | {"keys/nas.pub": KEY.encode()}
    )
    assert not result.failed, [problem.text() for problem in result.problems]
    return result.plan("nas")


class Host:
    """What the plan says of packets and flows, in the kernel, and what `wg-vpn` and eth0 would be without WireGuard."""

    def __init__(self, folder: Path) -> None:
        context = Context(secret=secret, inventory=Inventory(folder / "inventory.json"), services=folder / "services")
        self.drivers = drivers(context)
        self._watches = 0
        for dev, group in (("lan0", 0), ("wg-vpn", EXIT_TUNNELS.first)):
            ip(f"link add {dev} type veth peer name {dev}-far")
            for end in (dev, f"{dev}-far"):
                ip(f"link set {end} up")
            ip(f"link set {dev} group {group}")
        ip(f"address add {OURS}/24 dev eth0")
        ip("address add 192.168.10.1/24 dev lan0")
        ip("route add default dev eth0 onlink via 192.0.2.1")
        for gateway, dev in (("192.0.2.1", "eth0"), (OUTSIDE, "wg-vpn"), (LAN_CLIENT, "lan0")):
            ip(f"neigh add {gateway} lladdr {_mac(f'{dev}-far' if dev != 'eth0' else 'eth1')} dev {dev}")
        for name in ("all", "default", "eth0", "lan0", "wg-vpn"):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def hold(self, plan: HostPlan) -> None:
        """Rules, routes and chains of a plan, and the routes that the agent would add for a tunnel that carries."""
        wanted: list[Resource] = [one for one in plan.resources if one.kind in ("firewall", "route", "rule")]
        wanted += [
            Route(table=table, dst="0.0.0.0/0", dev="wg-vpn") for table in (EXIT_TABLES.first, SLOT_TABLES.first)
        ]
        for kind in ("firewall", "route", "rule"):
            desired = Desired.of([one for one in wanted if one.kind == kind], KINDS)
            changes = diff(desired, {kind: self.drivers[kind].observe()}, desired, KINDS).changes
            assert self.drivers[kind].apply(changes) == []
            assert diff(desired, {kind: self.drivers[kind].observe()}, desired, KINDS).changes == []

    def watch(self, chain: str, match: str) -> Callable[[], int]:
        """Counts packets that match after all that was there has seen them."""
        self._watches += 1
        name = f"watch-{self._watches}"
        run(f"iptables -w -t mangle -A {chain} {match} -m comment --comment {name}")

        def count() -> int:
            (line,) = [line for line in run("iptables-save -c -t mangle").splitlines() if f"--comment {name}" in line]
            found = re.match(r"\[(\d+):", line)
            assert found is not None
            return int(found[1])

        return count

    def way(self, mark: int) -> str:
        return ip(f"route get {OUTSIDE} mark {mark:#x}")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    needs_root()
    with private_network():
        yield Host(tmp_path)


def arrive(dev: str, source: str, target: str) -> None:
    """A UDP packet comes in by `dev`, from the other end of its cable."""
    far = "eth1" if dev == "eth0" else f"{dev}-far"
    udp = struct.pack("!HHHH", PORT, PORT, 12, 0) + b"mark"
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    header += socket.inet_aton(source) + socket.inet_aton(target)
    packet = header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp
    frame = b"".join(bytes.fromhex(_mac(end).replace(":", "")) for end in (dev, far)) + b"\x08\x00" + packet
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
        cable.bind((far, 0))
        cable.send(frame)


def _mac(dev: str) -> str:
    return str(json.loads(ip(f"-j link show {dev}"))[0]["address"])


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack("!10H", header))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def send(*groups: int) -> None:
    """A process with these groups sends a packet to the internet."""
    script = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'out', ('{OUTSIDE}', 7))"
    given = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    subprocess.run(["setpriv", given, sys.executable, "-c", script], check=False, capture_output=True)


def theirs(words: str) -> None:
    """A rule of somebody else's, before all of ours."""
    run(f"iptables -w -t {words}")


@pytest.mark.parametrize("marks", [None, "0xea55/0xffff", "0x5500/0xff00", "0xea55/0xffffffff"])
def test_the_kernel_holds_marks_as_they_are_written(host: Host, marks: str | None) -> None:
    plan = plan_of(marks)
    host.hold(plan)
    exit = (plan.runtime.exits or ())[0]
    assert " dev eth0 " in host.way(exit.marked.bypass)
    assert f" dev wg-vpn table {EXIT_TABLES.first} " in host.way(0)


def test_rules_find_ours_beside_the_bits_of_others(host: Host) -> None:
    host.hold(plan_of(None))
    for other in (0, *THEIRS):
        assert " dev eth0 " in host.way(other | 0x55)
        assert f" table {SLOT_TABLES.first} " in host.way(other | 0x57)
        assert f" table {EXIT_TABLES.first} " in host.way(other)


def test_what_comes_in_and_its_answer_keep_the_bits_of_others(host: Host) -> None:
    """Set in the packet, saved in the flow, restored in the answer."""
    host.hold(plan_of(None))
    theirs("raw -I PREROUTING -j MARK --set-xmark 0xc000/0xc000")
    theirs("mangle -I PREROUTING -j CONNMARK --set-xmark 0x8000/0x8000")
    theirs("raw -I OUTPUT -p udp -j MARK --set-xmark 0x4000/0x4000")
    arrived = host.watch("INPUT", "-i eth0 -p udp -m mark --mark 0xc055 -m connmark --mark 0x8055")
    answered = host.watch("POSTROUTING", "-o eth0 -p udp -m mark --mark 0x4055 -m connmark --mark 0x8055")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((OURS, PORT))
        server.settimeout(10.0)
        arrive("eth0", OUTSIDE, OURS)
        _, who = server.recvfrom(64)
        server.sendto(b"answer", who)
    eventually(lambda: (arrived(), answered()) == (1, 1), 10, "both packets with all bits")


def test_a_flow_that_stays_with_its_tunnel_keeps_the_bits_of_others(host: Host) -> None:
    host.hold(plan_of(None))
    theirs("mangle -I PREROUTING -j CONNMARK --set-xmark 0x8000/0x8000")
    theirs("raw -I PREROUTING -j MARK --set-xmark 0x4000/0x4000")
    began = host.watch("POSTROUTING", "-o wg-vpn -m mark --mark 0x4000 -m connmark --mark 0x8057")
    went_on = host.watch("POSTROUTING", "-o wg-vpn -m mark --mark 0x4057 -m connmark --mark 0x8057")
    arrive("lan0", LAN_CLIENT, OUTSIDE)
    eventually(lambda: (began(), went_on()) == (1, 0), 10, "the flow has begun")
    arrive("lan0", LAN_CLIENT, OUTSIDE)
    eventually(lambda: (began(), went_on()) == (1, 1), 10, "the flow goes on by its tunnel")


def test_the_agent_is_known_though_others_have_marked_its_packets(host: Host) -> None:
    host.hold(plan_of(None))
    theirs("raw -I OUTPUT -j MARK --set-xmark 0x8000/0x8000")
    beside = host.watch("POSTROUTING", f"-d {OUTSIDE} -o eth0")
    marked = host.watch("POSTROUTING", f"-d {OUTSIDE} -o eth0 -m mark --mark 0x8055")
    inside = host.watch("POSTROUTING", f"-d {OUTSIDE} -o wg-vpn")
    send(AGENT)
    eventually(lambda: (beside(), marked()) == (1, 1), 10, "the agent's packet leaves by the underlay")
    send()
    eventually(lambda: inside() == 1, 10, "anybody else's takes the exit")
    assert beside() == 1


def test_kubelets_firewall_lets_our_own_pass(host: Host) -> None:
    """`KUBE-FIREWALL` drops what has the bit 0x8000, in and out."""
    host.hold(plan_of(None))
    for chain in ("INPUT", "OUTPUT"):
        theirs(f"filter -I {chain} -m mark --mark 0x8000/0x8000 -j DROP")
    left = host.watch("POSTROUTING", f"-d {OUTSIDE} -o eth0 -m mark --mark 0x55")
    send(AGENT)
    eventually(lambda: left() == 1, 10, "the agent's packet leaves")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((OURS, PORT))
        server.settimeout(10.0)
        arrive("eth0", OUTSIDE, OURS)
        assert server.recvfrom(64)[0] == b"mark"
