"""A home whose exit is PIA: the lab's provider, its gateways at distances, and everything that becomes of them."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.provider.places import OUTSIDE, OUTSIDE_ADDRESS, gates_of
from reconciler.control import call
from tests.lab.edits import edit
from tests.lab.twin import REPOSITORY, Twin, as_json, cli, eventually, running

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
    with running(sites) as twin:
        twin.converged(twin.first)
        yield twin


@pytest.fixture
def home(lab: Twin) -> Iterator[Twin]:
    """With the nearest gateway in use, and every line as it was."""
    eventually(lambda: carrying(lab) == [FIRST], 60, "connected to the nearest")
    yield lab
    for gateway, delay in ((FIRST, "7ms"), (SECOND, "10ms")):
        cli(
            "lab",
            "line",
            gateway,
            "--delay",
            delay,
            "--jitter",
            "0ms",
            "--loss",
            "0",
            "--no-silent",
            "--lab",
            str(lab.folder.root),
        )
        cli("lab", "fault", gateway.split("/")[1], "none", "--lab", str(lab.folder.root))
    exits(lab, "pin", FIRST)
    exits(lab, "pin", "--none")


def exits(lab: Twin, *words: str) -> Any:
    config = str(lab.folder.host("nas") / "agent.yaml")
    command = [sys.executable, "-m", "gitwan", "exits", *words, "--json", "--config", config]
    _, output, errors = lab.attempt("nas", "env", f"PYTHONPATH={REPOSITORY}", *command)
    return as_json(output) if output else errors


def tunnels(lab: Twin) -> list[dict[str, Any]]:
    found = exits(lab, "status")
    return [tunnel for row in found for tunnel in row["tunnels"]] if isinstance(found, list) else []


def carrying(lab: Twin) -> list[str]:
    return [tunnel["gateway"] for tunnel in tunnels(lab) if tunnel["phase"] == "carrying"]


def line(lab: Twin, gateway: str, *words: str) -> None:
    found = cli("lab", "line", gateway, *words, "--lab", str(lab.folder.root))
    assert found.returncode == 0, found.stderr


def fault(lab: Twin, at: str, what: str) -> None:
    found = cli("lab", "fault", at, what, "--lab", str(lab.folder.root))
    assert found.returncode == 0, found.stderr


def baseline(lab: Twin) -> float:
    """Seconds, once there is one."""

    def known() -> bool:
        found = tunnels(lab)
        return len(found) == 1 and found[0]["baseline"] is not None

    eventually(known, 20, "a baseline")
    return float(tunnels(lab)[0]["baseline"])


def states(lab: Twin) -> list[dict[str, Any]]:
    """As `tunnels`, without a process: often enough to see every probe."""
    found: list[dict[str, Any]] = call(str(lab.folder.agent_socket("nas")), "exits")["exits"][0]["tunnels"]
    return found


def address(gateway: str) -> str:
    return next(gate.address for gate in gates_of(["pia"]) if gate.id == gateway)


def outside(lab: Twin, space: str = "nas") -> str:
    """The address that a service outside sees."""
    _, output, _ = lab.attempt(space, "curl", "-s", "-m", "2", f"http://{OUTSIDE_ADDRESS}/")
    return output.removeprefix("outside saw ").strip()


def test_the_home_takes_the_nearest_that_it_may(home: Twin) -> None:
    """Of seven: not the nearest of all, which is ignored, nor one of another country."""
    shown = home.run("nas", "wg show wg-pia")
    (first, *others) = exits(home, "list")
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
    assert outside(home) == outside(home, "home-pc") == first["address"]


def test_silence_is_over_within_six_seconds(home: Twin) -> None:
    baseline(home)
    line(home, FIRST, "--silent")
    since = time.monotonic()
    eventually(lambda: carrying(home) not in ([], [FIRST]), 15, "another one")
    took = time.monotonic() - since
    print(f"\nanother gateway carried after {took:.1f} s of silence")
    assert carrying(home) == [SECOND]
    eventually(lambda: outside(home) != "", 5, "carried")


@pytest.mark.parametrize("degraded", ["delay", "loss", "silence", "portal"])
def test_a_gateway_is_left_after_its_three_strikes_and_not_before(home: Twin, degraded: str) -> None:
    usual = baseline(home)
    match degraded:
        case "delay":  # a probe is two round trips, so four ways
            line(home, FIRST, "--delay", f"{12.5 * usual / 4 * 1000:.0f}ms")
        case "loss":
            line(home, FIRST, "--loss", "90")
        case "silence":
            line(home, FIRST, "--silent")
        case _:
            fault(home, FIRST.split("/")[1], "portal")
    alone = set()
    """Strikes of the gateway while no other was asked."""
    while len(found := {tunnel["gateway"]: tunnel for tunnel in states(home)}) == 1 and FIRST in found:
        alone.add(found[FIRST]["strikes"])
    assert {1, 2} <= alone, "each strike was seen"
    assert FIRST not in found or found[FIRST]["strikes"] >= 3, found
    eventually(lambda: carrying(home) not in ([], [FIRST]), 20, "another one")
    eventually(lambda: outside(home, "home-pc") not in ("", address(FIRST)), 5, "carried")


def test_one_that_jitters_is_kept(home: Twin) -> None:
    """Three times as long at most: a strike at most now and then, and never three in a row."""
    usual = baseline(home)
    line(home, FIRST, "--jitter", f"{2 * usual / 4 * 1000:.0f}ms")
    seen: list[list[float]] = []
    while len(seen) < 15:  # windows with another newest sample
        (tunnel,) = states(home)
        assert (tunnel["gateway"], tunnel["phase"], tunnel["degraded"]) == (FIRST, "carrying", False)
        if not seen or tunnel["window"] != seen[-1]:
            seen.append(tunnel["window"])
    assert max(seen[-1]) > 1.5 * usual, "it does jitter"


@pytest.mark.parametrize("fault_", ["http-500", "garbage", "list-signature", "other-name", "huge"])
def test_what_the_provider_does_wrong_is_said_and_the_tunnel_stays(home: Twin, fault_: str) -> None:
    fault(home, "pia-api", fault_)
    (tunnel,) = tunnels(home)
    before = device(home, tunnel["device"])
    try:
        home.restart("nas", signal.SIGKILL)
        eventually(lambda: trouble_of(home) is not None, 40, "said")
        print(f"\n{fault_}: {trouble_of(home)}")
        assert carrying(home) == [FIRST]
        assert device(home, tunnel["device"]) == before
        assert outside(home) != ""
    finally:
        fault(home, "pia-api", "none")


def device(lab: Twin, name: str) -> tuple[str, str]:
    """Another number would mean that it was made anew."""
    return lab.run("nas", f"ip -o link show {name}").split(":")[0], lab.run("nas", f"wg show {name} endpoints")


def trouble_of(lab: Twin) -> str | None:
    """What the running agent has to say of the provider."""
    found = exits(lab, "status")
    return found[0]["trouble"]["reason"] if isinstance(found, list) and found and found[0]["trouble"] else None


def test_a_forwarded_port_leads_to_the_host(home: Twin) -> None:
    eventually(lambda: port_of(home) is not None, 30, "a port")
    port = port_of(home)
    gateway = tunnels(home)[0]["endpoint"].rpartition(":")[0]
    script = f"timeout 20 python3 -m http.server {port} --directory /var/empty >/dev/null 2>&1 &"
    home.run("nas", "sh", "-c", f"mkdir -p /var/empty; {script}")
    eventually(
        lambda: home.attempt(OUTSIDE, "curl", "-sf", "-m", "2", f"http://{gateway}:{port}/")[0] == 0, 15, "let in"
    )
    assert home.attempt(OUTSIDE, "curl", "-sf", "-m", "2", f"http://{gateway}:22/")[0] != 0


def port_of(lab: Twin) -> int | None:
    found = exits(lab, "status")
    return found[0]["port"] if isinstance(found, list) and found else None


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
        exits(home, "next")
        eventually(lambda: trouble_of(home) is not None, 20, "said")
        assert trouble_of(home) == reason
        found = home.condition("nas", "Exits")
        print(f"\n{fault_}: {found}")
        assert (found["status"], found["reason"]) == ("False", reason)
        assert carrying(home) == [FIRST]
        assert device(home, tunnel["device"]) == before
        assert outside(home, "home-pc") == address(FIRST)
    finally:
        for place in places:
            fault(home, place, "none")
    exits(home, "next")  # at once, and not when it is tried again
    eventually(lambda: trouble_of(home) is None, 30, "well again")
