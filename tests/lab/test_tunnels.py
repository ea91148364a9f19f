"""Between ams and fra run three tunnels. One fails, each time in another way: its flows move, the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from lab.client import agent
from tests.lab.edits import edit
from tests.lab.paced import DEVICES, paced, shares, ways
from tests.lab.twin import Twin, eventually

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.timeout(600)]


AMS_GW = "203.0.113.10"


@pytest.fixture(scope="module")
def impatient(twin: Twin) -> Twin:
    """A hold-down of a second; and a tunnel that loses a third of its packets is not silent."""
    health = {"hold": "1s", "misses": 10}
    edit(twin.sites / "fabric.yaml", lambda fabric: fabric["links"][0].update(health=health))
    twin.converged(twin.push("be impatient"))
    return twin


def probed(twin: Twin, host: str = "ams-gw1") -> dict[str, Mapping[str, object]]:
    answer = agent(twin.folder, host, "status")
    rows = answer["status"]["tunnels"] if answer else []
    return {row["device"]: row["probe"] for row in rows if row["probe"]}


def alive(twin: Twin, host: str = "ams-gw1") -> set[str]:
    return {device for device, probe in probed(twin, host).items() if probe["alive"]}


def port_of(twin: Twin, device: str) -> int:
    return int(twin.run("ams-gw1", f"wg show {device} listen-port"))


@contextmanager
def fault(twin: Twin, device: str, words: str = "") -> Iterator[None]:
    """Packets of a tunnel are dropped on the internet, both ways, those that the words describe."""
    port = port_of(twin, device)
    rules = [f"FORWARD -{end} {AMS_GW} -p udp --{end}port {port} {words} -j DROP" for end in ("s", "d")]
    for rule in rules:
        twin.run("internet", f"iptables -I {rule}")
    try:
        yield
    finally:
        for rule in rules:
            twin.run("internet", f"iptables -D {rule}")


def fair(twin: Twin) -> bool:
    found = shares(twin)
    return found.keys() == DEVICES and max(found.values()) - min(found.values()) <= 1


def test_the_flows_of_a_blocked_tunnel_move_and_no_others_and_come_back(impatient: Twin) -> None:
    twin, found = impatient, {}
    assert fair(twin)
    with paced(twin, found):
        before = ways(twin)
        assert set(before.values()) == DEVICES
        with fault(twin, "wg-fra-2"):
            eventually(lambda: "wg-fra-2" not in ways(twin).values(), what="nothing leaves by the blocked tunnel")
            eventually(lambda: "wg-ams-2" not in alive(twin, "fra-gw1"), what="the far end sees it too")
            during = ways(twin)
            assert twin.condition("ams-gw1", "Tunnels")["reason"] == "Silent"
        moved = {flow for flow in before if before[flow] != during[flow]}
        assert moved == {flow for flow, way in before.items() if way == "wg-fra-2"}
        eventually(lambda: alive(twin) == DEVICES, 60.0, "it is back")
        eventually(lambda: fair(twin), 60.0, "it has its share of the buckets, though flows never rest")
    assert found.keys() == before.keys()
    lost = {flow: found[flow].lost for flow in found}
    assert {flow for flow in lost if lost[flow]} <= moved, lost
    assert all(lost[flow] for flow in moved), f"the fault cost something, or it was none: {lost} {moved}"
    print(f"{sum(lost.values())} packets lost on {len(moved)} flows, none on {len(before) - len(moved)} others")


GREY = {
    "too lossy": ("-m statistic --mode random --probability 0.18", "Lossy"),
    "large packets do not pass": ("-m length --length 1400:65535", "PacketTooBig"),
}


@pytest.mark.parametrize("kind", GREY)
def test_a_tunnel_that_works_only_somewhat_carries_nothing(impatient: Twin, kind: str) -> None:
    twin = impatient
    words, reason = GREY[kind]
    eventually(lambda: alive(twin) == DEVICES, 120.0, "all are alive")
    with fault(twin, "wg-fra-3", words):
        eventually(lambda: "wg-fra-3" not in alive(twin), 60.0, f"{kind}: {probed(twin)}")
        eventually(lambda: "wg-fra-3" not in ways(twin).values(), what="nothing leaves by it")
        condition = twin.condition("ams-gw1", "Tunnels")
        assert condition["reason"] == reason and "wg-fra-3 of ams-gw1~fra-gw1" in condition["message"]
    eventually(lambda: alive(twin) == DEVICES, 180.0, "it is back")


def test_where_all_are_dead_nothing_is_taken_away(impatient: Twin) -> None:
    twin = impatient
    with fault(twin, "wg-fra-1"), fault(twin, "wg-fra-2"), fault(twin, "wg-fra-3"):
        eventually(lambda: not alive(twin), what="all are dead")
        eventually(lambda: set(shares(twin)) == DEVICES, what="the group is whole")
    eventually(lambda: alive(twin) == DEVICES, 300.0, "they are back")


def test_an_agent_that_starts_again_leaves_a_dead_tunnel_out(impatient: Twin) -> None:
    twin = impatient
    with fault(twin, "wg-fra-1"):
        eventually(lambda: "wg-fra-1" not in shares(twin), what="it is out")
        twin.restart("ams-gw1", 9)
        eventually(lambda: len(probed(twin)) == 3, what="a new agent probes")
        assert "wg-fra-1" not in shares(twin) and twin.cycle("ams-gw1")["ok"]
        assert "wg-fra-1" not in shares(twin)
    eventually(lambda: alive(twin) == DEVICES, 300.0, "it is back")
