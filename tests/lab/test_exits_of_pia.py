"""A home whose exit is PIA: the lab's provider, its gateways at distances, and everything that becomes of them."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.client import down, up
from lab.folder import Folder
from lab.provider.places import OUTSIDE, OUTSIDE_ADDRESS
from lab.repository import git
from tests.lab.edits import edit
from tests.lab.twin import REPOSITORY, Twin, as_json, cli, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root]
SITES = REPOSITORY / "tests" / "golden" / "compile" / "exits" / "input"
HEALTH = {"interval": "1s", "timeout": "1s"}
FIRST, SECOND = "uk/london401", "uk/london402"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    root = Path(tempfile.mkdtemp(prefix="gwlab-", dir="/tmp"))
    folder, sites = Folder(root), tmp_path_factory.mktemp("sites")
    shutil.copytree(SITES, sites, dirs_exist_ok=True)
    edit(sites / "home.yaml", lambda site: site["hosts"]["nas"]["exits"]["pia"].update({"health": HEALTH}))
    edit(sites / "home.yaml", lambda site: site["hosts"]["nas"]["exits"]["pia"].update({"hold": "3s"}))
    try:
        up(sites, folder, lambda text: None)
        twin = Twin(folder, git(folder.work, "rev-parse", "HEAD"))
        twin.converged(twin.first)
        yield twin
    finally:
        down(folder)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def home(lab: Twin) -> Iterator[Twin]:
    """With the nearest gateway in use, and every line as it was."""
    eventually(lambda: carrying(lab) == [FIRST], 60, "connected to the nearest")
    yield lab
    for gateway, delay in ((FIRST, "7ms"), (SECOND, "8ms")):
        cli("lab", "line", gateway, "--delay", delay, "--jitter", "0ms", "--no-silent", "--lab", str(lab.folder.root))
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


def test_twelve_times_the_baseline_is_too_much_and_three_times_is_not(home: Twin) -> None:
    usual = baseline(home)
    # A probe is two round trips, so four ways.
    line(home, FIRST, "--jitter", f"{2 * usual / 4 * 1000:.0f}ms")
    time.sleep(12)
    assert carrying(home) == [FIRST]
    line(home, FIRST, "--jitter", "0ms", "--delay", f"{12.5 * usual / 4 * 1000:.0f}ms")
    eventually(lambda: carrying(home) not in ([], [FIRST]), 20, "another one")


def test_loss_and_a_captive_portal_are_no_health(home: Twin) -> None:
    baseline(home)
    fault(home, FIRST.split("/")[1], "portal")
    eventually(lambda: carrying(home) == [SECOND], 20, "left the portal")
    line(home, SECOND, "--loss", "90")
    eventually(lambda: carrying(home) not in ([], [SECOND]), 40, "left the lossy one")
    line(home, SECOND, "--loss", "0")


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
