"""Two sites with two gateways each: real agents, keepalived and radvd, and what a failure costs servers on the LANs."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.blueprint import INTERNET
from lab.draw import draw
from lab.drive import compiled
from tests.lab.twin import Flow, Twin, as_json, eventually, playing

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.timeout(600)]

FABRIC = """\
fabric: gateways
version: 1
defaults: {health: {hold: 2s}}
links:
  - {between: [a, b], tunnels: 2}
"""
SITE = """\
site: %(site)s
kind: datacenter
gateways: {hosts: [%(site)s-gw1, %(site)s-gw2], virtual: [10.%(n)d0.0.254, "fd00:%(n)d0::fe"], hold: 5s}
hosts:
  %(site)s-gw1:
    underlay: {interface: eno1, addresses: [203.0.%(n)d.11/24], gateway: 203.0.%(n)d.1}
    lans: {eno4: [10.%(n)d0.0.1/16, "fd00:%(n)d0::1/64"]}
  %(site)s-gw2:
    underlay: {interface: eno1, addresses: [203.0.%(n)d.12/24], gateway: 203.0.%(n)d.1}
    lans: {eno4: [10.%(n)d0.0.2/16, "fd00:%(n)d0::2/64"]}
"""
VIRTUAL, VIRTUAL6 = "10.10.0.254", "fd00:10::fe"
FAR, FAR6 = "10.20.0.100", "fd00:20::64"
NEAR = "10.10.0.100"
SECOND = "10.10.0.2"
"""a-gw2's own address on the LAN, which no fault here takes away."""
MOST = 4.0
"""Seconds that servers may be without answers."""
MOST_BACK = 1.0
"""The same when the better gateway comes back: nothing has failed then."""


@pytest.fixture(scope="module")
def twin(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    sites = tmp_path_factory.mktemp("sites")
    (sites / "fabric.yaml").write_text(FABRIC)
    for n, site in enumerate(("a", "b"), 1):
        (sites / f"{site}.yaml").write_text(SITE % {"site": site, "n": n})
    with playing(sites) as twin:
        twin.settle()
        steady(twin)
        yield twin


def has(twin: Twin, host: str) -> set[str]:
    """Which virtual addresses a host has now."""
    found = as_json(twin.run(host, "ip -j address show dev eno4"))
    return {info["local"] for link in found for info in link.get("addr_info", ())} & {VIRTUAL, VIRTUAL6}


def steady(twin: Twin) -> None:
    eventually(lambda: has(twin, "a-gw1") == {VIRTUAL, VIRTUAL6}, 60.0, "a-gw1 is active")
    eventually(lambda: not has(twin, "a-gw2"), 60.0, "a-gw2 is not")
    eventually(lambda: not twin.reaches(("a-server", FAR), ("b-server", NEAR)), 60.0, "the servers speak")


class Moves:
    """How often a host got or lost the virtual address since this began."""

    def __init__(self, twin: Twin, host: str) -> None:
        self._file = Path(tempfile.mkstemp(prefix="gwmoves-", dir=twin.folder.root)[1])
        twin.run(host, "sh", "-c", f"exec ip -o monitor address dev eno4 >{self._file} 2>&1 &")

    @property
    def seen(self) -> list[str]:
        lines = [line for line in self._file.read_text().splitlines() if f" {VIRTUAL}/" in line]
        return ["lost" if line.startswith("Deleted") else "got" for line in lines]


def ports(twin: Twin, host: str) -> list[tuple[str, str]]:
    """The far ends of a host's cables: (space, interface)."""
    fabric = compiled(twin.folder).fabric
    assert fabric is not None
    return [w.a for w in draw(fabric).wires if w.b[0] == host and w.b[1] in ("eno1", "eno4")]


def block(twin: Twin, action: str) -> None:
    """Nothing of WireGuard's gets from a-gw1 to the other site any more, or back; git does."""
    for way in ("-s", "-d"):
        twin.run(INTERNET, f"iptables {action} FORWARD {way} 203.0.1.11 -p udp -j DROP")


def cables(twin: Twin, state: str) -> None:
    for space, dev in ports(twin, "a-gw1"):
        twin.run(space, f"ip link set {dev} {state}")


def test_the_first_gateways_carry_everything(twin: Twin) -> None:
    assert not has(twin, "a-gw2")
    assert re.search(r"dev wg-b-gw1-[12]", twin.run("a-gw1", f"ip route get {FAR} from {NEAR} iif eno4"))
    assert twin.reaches(("a-server", FAR6)) == []
    conditions = {c["type"]: c["status"] for c in twin.status("a-gw1")["conditions"]}
    assert conditions["Applied"] == "True", conditions


@pytest.mark.parametrize("fault", ["tunnels", "host"])
def test_the_second_one_takes_over_once_and_gives_back_once(
    twin: Twin, fault: str, measured: dict[str, list[tuple[str, str]]]
) -> None:
    moves = {host: Moves(twin, host) for host in ("a-gw1", "a-gw2")}
    flows, beside = through(twin), Flow(twin, "a-server", SECOND)
    block(twin, "-I") if fault == "tunnels" else cables(twin, "down")
    eventually(lambda: has(twin, "a-gw2") == {VIRTUAL, VIRTUAL6}, 30.0, "a-gw2 takes over")
    figures = close(flows, beside, MOST)
    measured.setdefault("a gateway fails", []).append((f"all of a-gw1's {fault}", figures))
    assert moves["a-gw2"].seen == ["got"]

    flows, beside = through(twin), Flow(twin, "a-server", SECOND)
    block(twin, "-D") if fault == "tunnels" else cables(twin, "up")
    eventually(lambda: has(twin, "a-gw1") == {VIRTUAL, VIRTUAL6}, 90.0, "a-gw1 comes back")
    eventually(lambda: not has(twin, "a-gw2"), 30.0, "a-gw2 gives back")
    figures = close(flows, beside, MOST_BACK)
    measured.setdefault("a gateway fails", []).append(("and comes back", figures))
    assert moves["a-gw2"].seen == ["got", "lost"], "no flapping"
    assert moves["a-gw1"].seen == ["lost", "got"], "no flapping"
    steady(twin)


def through(twin: Twin) -> list[Flow]:
    """Flows from one site to the other, and back."""
    return [Flow(twin, "a-server", FAR), Flow(twin, "b-server", NEAR), Flow(twin, "a-server", FAR6)]


def close(flows: list[Flow], beside: Flow, most: float) -> str:
    """Ends flows, which all have to go on after a gap that is no longer than that.

    Of which what a flow beside them had as well, which no fault has met, is the machine's doing.
    """
    lost = {flow.name: (len(flow.close()), flow.sent, flow.gap) for flow in flows}
    beside.close()
    text = "; ".join(f"{name}: {n} of {sent} lost, gap {gap:.2f} s" for name, (n, sent, gap) in lost.items())
    text += f"; beside them {beside.gap:.2f} s"
    print(text)
    assert all(gap - beside.gap <= most for _, _, gap in lost.values()), text
    return text


def test_a_server_learns_the_way_from_advertisements_and_keeps_it(twin: Twin) -> None:
    """They come from the virtual router, so what was learned is as good when another gateway is active."""
    twin.run("a-server", "ip -6 route del default")
    for name in ("accept_ra=2", "accept_ra_rt_info_max_plen=64"):
        twin.run("a-server", f"sysctl -qw net.ipv6.conf.br0.{name}")

    def learned() -> list[tuple[str, str]]:
        found = as_json(twin.run("a-server", "ip -6 -j route show proto ra"))
        return [(r["gateway"], r["pref"]) for r in found if r["dst"] == "fd00:20::/64"]

    eventually(lambda: learned() == [("fe80::200:5eff:fe00:275", "high")], 30.0, "the way")
    flow, beside = Flow(twin, "a-server", FAR6), Flow(twin, "a-server", SECOND)
    block(twin, "-I")
    eventually(lambda: has(twin, "a-gw2") == {VIRTUAL, VIRTUAL6}, 30.0, "a-gw2 takes over")
    block(twin, "-D")
    eventually(lambda: has(twin, "a-gw1") == {VIRTUAL, VIRTUAL6}, 90.0, "a-gw1 comes back")
    close([flow], beside, MOST)
    assert len(learned()) == 1
    steady(twin)


def test_a_daemon_that_dies_is_started_again(twin: Twin) -> None:
    pid = (twin.folder.host("a-gw2") / "state/services/keepalived.pid").read_text().strip()
    twin.run("a-gw2", f"kill -9 {pid}")
    eventually(lambda: _pid(twin) not in ("", pid), what="another process")
    steady(twin)


def test_its_daemons_outlive_the_agent(twin: Twin) -> None:
    pid = _pid(twin)
    twin.restart("a-gw2", signal.SIGTERM)
    twin.converged(twin.head, ["a-gw2"])
    assert _pid(twin) == pid
    assert twin.run("a-gw2", f"cat /proc/{pid}/comm").strip() == "keepalived"


def _pid(twin: Twin) -> str:
    file = twin.folder.host("a-gw2") / "state/services/keepalived.pid"
    return file.read_text().strip() if file.exists() else ""


def test_giving_a_host_back_ends_its_daemons(twin: Twin) -> None:
    """The last one: a-gw2 is no gateway any more afterwards."""
    assert twin.run("a-gw2", "pgrep -c -f services/keepalived.conf").strip() != "0"
    code, output = twin.gitwan("a-gw2", "remove", "--yes")
    assert code == 0, output
    assert not list((twin.folder.host("a-gw2") / "state").glob("services/*"))
    assert twin.attempt("a-gw2", "pgrep -f hosts/a-gw2/state/services")[0] == 1
