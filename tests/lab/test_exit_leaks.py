"""A home whose exit is PIA, and every packet that it sends to its ISP: nothing of its LAN but within a tunnel."""

from __future__ import annotations

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from lab.blueprint import GIT_ADDRESS
from lab.netns import within
from lab.provider.places import OUTSIDE_ADDRESS, OUTSIDE_ADDRESS6, api_address, gates_of
from schema.plan.ranges import EXIT_TUNNELS
from tests.drill import everything
from tests.drill.world import REBOOT
from tests.lab.exiting import ARP, CONTENT, IPV4, IPV6, NOISE, Capture, Packet
from tests.lab.twin import REPOSITORY, Twin, eventually, playing
from tests.lab.vpn import HOST, PC, carried, carrying, fault, line, order, seen, tunnels

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(900)]

ISP = "isp-nas"
ELECTIONS = 50 if everything() else 3
SERVER, SERVER6 = OUTSIDE_ADDRESS, OUTSIDE_ADDRESS6
ISP6, HOME6 = "2001:db8:77::1", "2001:db8:77::2"
SITES = REPOSITORY / "tests" / "golden" / "compile" / "exits" / "input"
SITE = """\
site: home
kind: edge
hosts:
  nas:
    underlay: {interface: eth0, addresses: dhcp}
    lans:
      lan0: [192.168.10.1/24, "fd00:192::1/64"]
"""
EXIT = """\
    exits:
      pia:
        provider: pia
        credentials: pia-login
        ignore: [uk_2, london402]
        hold: 1s
        cool_down: 10s
        health: {interval: 500ms, timeout: 1s}
"""


@pytest.fixture(scope="module")
def twin(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    sites = tmp_path_factory.mktemp("sites")
    shutil.copytree(SITES, sites, dirs_exist_ok=True)
    (sites / "a.yaml").unlink()
    (sites / "keys" / "a-gw.pub").unlink()
    (sites / "fabric.yaml").write_text("fabric: wan\nversion: 1\n")
    (sites / "home.yaml").write_text(SITE + EXIT)
    with playing(sites) as twin:
        twin.run(ISP, f"ip address add {ISP6}/64 dev lan nodad")
        twin.run(HOST, f"ip address add {HOME6}/64 dev eth0 nodad")
        twin.run(HOST, f"ip route add default via {ISP6}")
        eventually(lambda: carried(twin), 60.0, "connected")
        yield twin


def degraded(twin: Twin) -> bool:
    return any(tunnel["degraded"] for tunnel in tunnels(twin))


GATES = {gate.address for gate in gates_of(["pia"])}
HOME = "100.64.1.2"
ROUTER = "100.64.1.1"


def judge(packet: Packet) -> tuple[str, bool]:
    """What a packet from the home is, and whether it should not be there. What is not known is a leak."""
    target, data = packet.target, packet.data
    if packet.kind == ARP:
        return packet.text, False
    if packet.kind == IPV6:
        # Neighbour discovery, reports of groups, which have options first, and the agent's look at its router.
        kinds = {58: (133, 135, 136, 128) if target == ISP6 else (133, 135, 136), 0: range(256)}
        near = target.startswith(("ff02:", "fe80:")) or target == ISP6
        return packet.text, not near or data[0] not in kinds.get(packet.protocol, ()) or CONTENT in data
    if packet.kind != IPV4 or packet.source != HOME or CONTENT in data:
        return packet.text, True
    match packet.protocol, packet.port:
        case 17, 1337 if target in GATES and 1 <= data[8] <= 4 and data[9:12] == bytes(3):
            return "tunnel", False
        case (6, 443) | (6, 1337) if target in {*GATES, api_address("pia")}:
            return "provider", False
        case 1, _ if target in GATES and data[0] == 8:
            return "latency", False
        case 1, _ if target in GATES and data[:2] == b"\x03\x03":
            return "no such tunnel any more", False
        case 1, _ if target == ROUTER:
            return "a look at the router", False
        case 6, 22 if target == GIT_ADDRESS:
            return "git", False
    return packet.text, True


@contextmanager
def noise(twin: Twin, space: str) -> Iterator[None]:
    """All that must not leave, a hundred times a second: TCP, UDP and DNS outside and to the ISP, and IPv6."""
    words = (sys.executable, "-c", NOISE, SERVER, ROUTER, SERVER6)
    number = twin.run(space, "sh", "-c", 'exec "$0" "$@" >/dev/null 2>&1 & echo $!', *words)
    yield
    twin.run(space, f"kill {number}")


@contextmanager
def captured(twin: Twin) -> Iterator[Capture]:
    """Every packet that the home sends to its provider."""
    capture = Capture(judge)
    spaces = Path("/proc", twin.folder.pid.read_text(), "root", "run", "netns")
    with within(str(spaces / ISP)):
        capture.listen("lan")
    try:
        yield capture
    finally:
        capture.close()


def agents(twin: Twin) -> list[int]:
    """The agent's parent, and the agent; numbers of the lab's own PID namespace."""
    return sorted(map(int, twin.run(HOST, f"pgrep -f hosts/{HOST}/agent.yaml").split()))


def power_cut(twin: Twin) -> None:
    """No process, nothing of ours in the kernel; then the operating system has its interfaces up before the agent."""
    twin.run(HOST, "ip link set eth0 down")  # while it is off, it sends nothing
    twin.run(HOST, f"kill -9 {agents(twin)[0]}")
    eventually(lambda: twin.attempt(HOST, f"pgrep -f hosts/{HOST}/agent.yaml")[0] == 1, what="no agent")
    for text in (*REBOOT, *EXITS_REBOOT):
        twin.attempt(HOST, "sh", "-c", text)
    twin.run(HOST, "ip link set eth0 up")
    twin.run(HOST, f"ip route replace default via {ROUTER}")
    twin.run(HOST, f"ip address replace {HOME6}/64 dev eth0 nodad")
    twin.run(HOST, f"ip route replace default via {ISP6}")


EXITS_REBOOT = (
    # With them go their addresses, from which connections that a power cut ends would go on here.
    f"ip -br link show group {EXIT_TUNNELS.first} | cut -d' ' -f1 | xargs -rn1 ip link del; conntrack -F",
    "for t in iptables ip6tables; do $t -t nat -F; $t -t nat -X; done",
    "for f in -4 -6; do for p in $(seq 1170 1179); do while ip $f rule del priority $p; do :; done; done; done",
)


def quiet(capture: Capture, what: str) -> None:
    assert capture.leaks == Counter(), f"{what}: {capture.text}"
    assert not capture.missed, what
    print(f"{what}: {capture.seen.total()} packets looked at so far, none leaked")


def more(capture: Capture, packets: int) -> Callable[[], bool]:
    """Whether so many packets more were looked at."""
    target = capture.seen.total() + packets
    return lambda: capture.seen.total() >= target


def test_nothing_of_the_lan_leaves_beside_a_tunnel(twin: Twin, measured: dict[str, list[tuple[str, str]]]) -> None:
    with captured(twin) as capture, noise(twin, PC):
        power_cut(twin)
        shutil.rmtree(twin.folder.host(HOST) / "state")
        capture.begin()
        twin.restart(HOST, signal.SIGKILL)
        eventually(lambda: carried(twin), 60.0, "connected for the first time")
        quiet(capture, "\nfirst start")
        with noise(twin, HOST):
            elected(twin, capture)
            killed(twin, capture)
            cut_off(twin, capture)
        power_cut(twin)
        twin.restart(HOST, signal.SIGKILL)
        eventually(lambda: carried(twin), 60.0, "connected after a reboot")
        quiet(capture, "a reboot")
        removed(twin, capture)
        figure = f"{capture.seen.total()} looked at, none leaked"
        measured.setdefault("packets of a home with an exit, at its ISP", []).append((f"{ELECTIONS} elections", figure))


def elected(twin: Twin, capture: Capture) -> None:
    for _ in range(ELECTIONS):
        before = carrying(twin)
        order(twin, "next")
        eventually(lambda: carrying(twin) not in ([], before), 60.0, "elected")  # noqa: B023 - called at once
    eventually(lambda: carried(twin), what="carried")
    quiet(capture, f"{ELECTIONS} forced elections")


def killed(twin: Twin, capture: Capture) -> None:
    """The agent alone, and then it and its parent."""
    twin.run(HOST, f"kill -9 {agents(twin)[-1]}")
    assert seen(twin) in GATES
    eventually(lambda: carried(twin), 60.0, "found again")
    twin.restart(HOST, signal.SIGKILL)
    eventually(lambda: carried(twin), 60.0, "found again")
    quiet(capture, "SIGKILL")


def cut_off(twin: Twin, capture: Capture) -> None:
    """No gateway answers, and neither does the provider."""
    for gate in gates_of(["pia"]):
        line(twin, gate.id, silent=True)
    fault(twin, "pia-api", "silence")
    eventually(lambda: degraded(twin), 60.0, "an outage")
    eventually(more(capture, 50), 60.0, "packets")
    assert not seen(twin)
    for gate in gates_of(["pia"]):
        line(twin, gate.id, silent=False)
    fault(twin, "pia-api", "")
    eventually(lambda: carried(twin), 120.0, "connected after an outage")
    quiet(capture, "an outage of the provider")


def removed(twin: Twin, capture: Capture) -> None:
    """Until its plan is in force nothing changes; then the home is an ordinary router, and the capture sees that."""
    rules = twin.folder.root / "rules"
    twin.run(HOST, "sh", "-c", f"exec ip -ts -o monitor rule >{rules} 2>&1 &")
    agent = agents(twin)[-1]
    twin.run(HOST, f"kill -STOP {agent}")
    (twin.sites / "home.yaml").write_text(SITE)
    commit = twin.push("no exit")
    eventually(more(capture, 200), 60.0, "packets")
    quiet(capture, "its removal is pushed")
    before = capture.seen.copy()
    twin.run(HOST, f"kill -CONT {agent}")
    twin.converged(commit)
    eventually(lambda: capture.leaks[f"protocol 17 from 192.168.10.100 to {SERVER}:9"], what="out by the ISP")
    refused = next(text for text in rules.read_text().splitlines() if "Deleted 1179:" in text)
    assert capture.first is not None
    assert capture.first > datetime.fromisoformat(refused[1:].split("]")[0]).timestamp()
    (twin.sites / "home.yaml").write_text(SITE + EXIT)
    twin.push("the exit again")
    eventually(lambda: carried(twin), 60.0, "connected again")
    capture.begin()
    capture.seen.update(before)
    eventually(more(capture, 200), 60.0, "packets")
    quiet(capture, "an exit again")
