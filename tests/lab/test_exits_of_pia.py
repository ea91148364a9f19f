"""A home whose exit is PIA: the lab's provider, its gateways at distances, and everything that becomes of them."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab.provider.places import OUTSIDE, gates_of
from tests.lab.edits import edit
from tests.lab.twin import REPOSITORY, Twin, as_json, eventually, playing
from tests.lab.vpn import HOST, carried, carrying, exit_of, fault, gate, line, order, seen, trouble_of, tunnels

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.drill]
SITES = REPOSITORY / "tests" / "golden" / "compile" / "exits" / "input"
HEALTH = {"interval": "1s", "timeout": "1s"}
FIRST, SECOND = "uk/london401", "uk/london402"
SERVERS = [gate.server for gate in gates_of(["pia"])]


@pytest.fixture(scope="module")
def lab(_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    sites = tmp_path_factory.mktemp("sites")
    shutil.copytree(SITES, sites, dirs_exist_ok=True)
    edit(sites / "home.yaml", lambda site: site["hosts"]["nas"]["exits"]["pia"].update({"health": HEALTH}))
    edit(sites / "home.yaml", lambda site: site["hosts"]["nas"]["exits"]["pia"].update({"hold": "3s"}))
    # As the article has it.
    edit(sites / "fabric.yaml", lambda fabric: fabric.update({"marks": "0xea55/0xffff"}))
    with playing(sites) as twin:
        twin.converged(twin.first)
        yield twin


@pytest.fixture
def home(lab: Twin) -> Iterator[Twin]:
    """With the nearest gateway in use, and every line as it was."""
    eventually(lambda: settled(lab), 60, "connected to the nearest")
    yield lab
    for gateway in (FIRST, SECOND):
        line(lab, gateway, delay=gate(gateway).delay, jitter=0.0, loss=0.0, silent=False)
        fault(lab, gate(gateway).server, "")
    order(lab, "pin", FIRST)
    eventually(lambda: settled(lab), 60, "back at the nearest")
    order(lab, "pin")


def settled(lab: Twin) -> bool:
    """Whether the nearest carries, and no other is on its way."""
    return [(tunnel["gateway"], tunnel["phase"]) for tunnel in tunnels(lab)] == [(FIRST, "carrying")]


def said(lab: Twin, *words: str) -> Any:
    """What `gitwan exits` prints on the host."""
    config = str(lab.folder.host(HOST) / "agent.yaml")
    command = [sys.executable, "-m", "gitwan", "exits", *words, "--json", "--config", config]
    return as_json(lab.run(HOST, "env", f"PYTHONPATH={REPOSITORY}", *command))


def baseline(lab: Twin) -> float:
    """Seconds of a probe's round trip, once there is one."""
    eventually(lambda: [tunnel["baseline"] for tunnel in tunnels(lab)] not in ([], [None]), 20, "a baseline")
    return float(tunnels(lab)[0]["baseline"])


def test_the_home_takes_the_nearest_that_it_may(home: Twin) -> None:
    """Of seven: not the nearest of all, which is ignored, nor one of another country."""
    shown = home.run(HOST, "wg show wg-pia")
    (first, *others) = said(home, "list")
    for text in (
        "fwmark: 0xea55",
        f"endpoint: {first['address']}:1337",
        "allowed ips: 0.0.0.0/0",
        "latest handshake: ",
        "persistent keepalive: every 15 seconds",
    ):
        assert text in shown
    assert first["gateway"] == FIRST and first["phase"] == "carrying"
    assert {one["country"] for one in others} <= {"gb", "nl"} and "uk_2/southampton401" not in str(others)
    assert seen(home, HOST) == seen(home) == first["address"]


def test_after_silence_the_next_nearest_carries(home: Twin) -> None:
    baseline(home)
    line(home, FIRST, silent=True)
    eventually(lambda: carrying(home) not in ([], [FIRST]), 15, "another one")
    assert carrying(home) == [SECOND]
    eventually(lambda: carried(home), what="carried")


@pytest.mark.parametrize("degraded", ["delay", "loss", "silence", "portal"])
def test_a_gateway_is_left_after_its_three_strikes_and_not_before(home: Twin, degraded: str) -> None:
    usual = baseline(home)
    match degraded:
        case "delay":  # a probe is two round trips, so four ways
            line(home, FIRST, delay=12.5 * usual / 4)
        case "loss":
            line(home, FIRST, loss=0.9)
        case "silence":
            line(home, FIRST, silent=True)
        case _:
            fault(home, gate(FIRST).server, "portal")
    alone = set()
    """Strikes of the gateway while no other was asked."""
    while len(found := {tunnel["gateway"]: tunnel for tunnel in tunnels(home)}) == 1 and FIRST in found:
        alone.add(found[FIRST]["strikes"])
    assert {1, 2} <= alone, "each strike was seen"
    assert FIRST not in found or found[FIRST]["strikes"] >= 3, found
    eventually(lambda: carrying(home) not in ([], [FIRST]), 20, "another one")
    eventually(lambda: carried(home), what="carried")


def test_one_that_jitters_is_kept(home: Twin) -> None:
    """Three times as long at most: a strike at most now and then, and never three in a row."""
    usual = baseline(home)
    line(home, FIRST, jitter=2 * usual / 4)
    windows: list[list[float]] = []
    while len(windows) < 15:  # windows with another newest sample
        (tunnel,) = tunnels(home)
        assert (tunnel["gateway"], tunnel["phase"], tunnel["degraded"]) == (FIRST, "carrying", False)
        if tunnel["window"] not in windows[-1:]:
            windows.append(tunnel["window"])
    assert max(windows[-1]) > 1.5 * usual, "it does jitter"


@pytest.mark.parametrize(
    "fault_", ["http-500", "garbage", "list-signature", "other-name", "not-yet-valid", "huge", "silence"]
)
def test_what_the_provider_does_wrong_is_said_and_the_tunnel_stays(home: Twin, fault_: str) -> None:
    fault(home, "pia-api", fault_)
    (tunnel,) = tunnels(home)
    before = device(home, tunnel["device"])
    try:
        home.restart(HOST, signal.SIGKILL)
        eventually(lambda: trouble_of(home) is not None, 40, "said")
        print(f"\n{fault_}: {trouble_of(home)}")
        assert carrying(home) == [FIRST]
        assert device(home, tunnel["device"]) == before
        assert carried(home)
    finally:
        fault(home, "pia-api", "")


def device(lab: Twin, name: str) -> tuple[str, str]:
    """Another number would mean that it was made anew."""
    return lab.run(HOST, f"ip -o link show {name}").split(":")[0], lab.run(HOST, f"wg show {name} endpoints")


def test_a_forwarded_port_leads_to_the_host(home: Twin) -> None:
    eventually(lambda: exit_of(home)["port"], 30, "a port")
    port = exit_of(home)["port"]
    gateway = tunnels(home)[0]["endpoint"].rpartition(":")[0]
    script = f"timeout 20 python3 -m http.server {port} --directory /var/empty >/dev/null 2>&1 &"
    home.run(HOST, "sh", "-c", f"mkdir -p /var/empty; {script}")
    eventually(
        lambda: home.attempt(OUTSIDE, "curl", "-sf", "-m", "2", f"http://{gateway}:{port}/")[0] == 0, 15, "let in"
    )
    assert home.attempt(OUTSIDE, "curl", "-sf", "-m", "2", f"http://{gateway}:22/")[0] != 0


def concluded(lab: Twin) -> tuple[str, str]:
    """The host's condition, and its reason."""
    found = lab.condition(HOST, "Exits")
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("fault_", "where", "reason"),
    [
        ("tokens-expire", "pia-api", "TokenExpired"),
        ("refuse-key", "", "Refused"),
        ("http-500", "", "HttpError"),
    ],
)
def test_where_no_gateway_takes_our_key_the_tunnel_stays(home: Twin, fault_: str, where: str, reason: str) -> None:
    """`where`: a service, or every gateway."""
    (tunnel,) = tunnels(home)
    before = device(home, tunnel["device"])
    places = [where] if where else SERVERS
    for place in places:
        fault(home, place, fault_)
    try:
        order(home, "next")
        eventually(lambda: trouble_of(home) is not None, 20, "said")
        assert trouble_of(home) == reason
        # What `gitwan exits` says is in the status an instant later.
        eventually(lambda: concluded(home) == ("False", reason), what=f"the condition: {reason}")
        print(f"\n{fault_}: {home.condition(HOST, 'Exits')}")
        assert carrying(home) == [FIRST]
        assert device(home, tunnel["device"]) == before
        assert carried(home)
    finally:
        for place in places:
            fault(home, place, "")
    order(home, "next")  # at once, and not when it is tried again
    eventually(lambda: trouble_of(home) is None, 30, "well again")


def test_metrics_have_the_names_that_they_always_had(home: Twin) -> None:
    """And milliseconds, as their unit."""
    usual = baseline(home)
    text = home.run(HOST, "curl -s http://127.0.0.1:2112/metrics")
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    of_gateway = f'exit="pia",gateway="{FIRST}"'
    assert float(found[f"vpn_healthcheck_baseline_ms{{{of_gateway}}}"]) == pytest.approx(usual * 1000)
    assert float(found[f"vpn_healthcheck_latency{{{of_gateway}}}"]) > 1
    assert float(found[f"vpn_healthcheck_average{{{of_gateway}}}"]) > 1
    assert float(found[f'vpn_healthcheck_degraded{{best="{FIRST}",exit="pia"}}']) == pytest.approx(usual * 10_000)
    assert float(found[f'vpn_healthcheck_window_ms{{{of_gateway},slot="0"}}']) > 1
    assert found[f"gitwan_exit_carrying{{{of_gateway}}}"] == "1.0"
