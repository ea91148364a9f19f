"""Ports and keys of a tunnel change at both ends, and one end hears of it half a minute after the other."""

from __future__ import annotations

import base64
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.client import down
from lab.drive import HANDSHAKES, wait_tunnels
from lab.folder import LabFolder
from reconciler.base.control import call
from reconciler.system.wg_key import generate_private, public_key
from schema.plan import HostPlan
from tests.drill import everything
from tests.drill.world import DEADLINE, Drill, begin
from tests.lab.edits import edit
from tests.lab.twin import eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(600)]

ENDS = ("ams-gw1", "fra-gw1")
LAG = 30.0 if everything() else DEADLINE + 2.0
"""Seconds between the two ends: more than the deadline."""
POLL = LAG + 15.0


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    root = Path(tempfile.mkdtemp(prefix="gwd-", dir="/tmp"))
    try:
        found = begin(root, POLL)
        (found.twin.folder.bare / "hooks" / "post-receive").unlink()  # each agent hears when the test says so
        yield found
    finally:
        down(LabFolder(root))


def other_ports(drill: Drill, base: int) -> dict[str, str]:
    """The three tunnels between the two ends on ports of their own, at both of them."""
    ports = {end: list(range(base + 10 * n, base + 10 * n + 3)) for n, end in enumerate(("ams", "fra"))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fabric.yaml")
        path.write_text(drill.read("fabric.yaml"))
        edit(path, lambda fabric: fabric["links"][0].update({"ports": ports}))
        return {"fabric.yaml": path.read_text()}


def other_keys(drill: Drill) -> dict[str, str]:
    """New keys for both ends; the private ones are on the hosts before the commit is there."""
    files = {}
    for host in ENDS:
        private = generate_private()
        (drill.twin.folder.host(host) / "keys" / "private.key").write_text(base64.b64encode(private).decode() + "\n")
        files[f"keys/{host}.pub"] = public_key(private) + "\n"
    return files


def tell(drill: Drill, *hosts: str) -> None:
    for host in hosts:
        call(str(drill.twin.folder.agent_socket(host)), "notify")


@pytest.mark.parametrize(
    ("what", "first"),
    [
        ("ports", ENDS[0]),
        pytest.param("keys", ENDS[1], marks=pytest.mark.drill),
        pytest.param("ports", ENDS[1], marks=pytest.mark.drill),
        pytest.param("keys", ENDS[0], marks=pytest.mark.drill),
    ],
)
def test_both_ends_change_half_a_minute_apart(
    drill: Drill, what: str, first: str, measured: dict[str, list[tuple[str, str]]]
) -> None:
    base = 6000 if first == ENDS[0] else 7000
    files = other_ports(drill, base) if what == "ports" else other_keys(drill)
    plans: dict[str, HostPlan] = drill.compiled(files)
    assert set(ENDS) <= set(plans)
    for host in drill.twin.hosts:
        # Every agent has just polled, and will not again by itself before the test tells it to.
        drill.twin.restart(host, signal.SIGTERM)
        eventually(lambda host=host: drill.twin.folder.agent_socket(host).exists())  # type: ignore[misc]
    assert wait_tunnels(drill.twin.folder, HANDSHAKES, lambda text: None) is not None
    commit = drill.push(plans, f"other {what} at both ends")
    started = time.monotonic()
    tell(drill, first)
    eventually(
        lambda: drill.twin.condition(first, "Confirmed")["reason"] == "OnTrial", what="the first end is on trial"
    )
    # The lag itself is what is tested.
    time.sleep(max(0.0, LAG - (time.monotonic() - started)))
    assert drill.changing(first) and not drill.rejected(first)
    tell(drill, *(host for host in drill.twin.hosts if host != first))
    drill.twin.converged(commit)
    seconds = time.monotonic() - started - LAG
    assert all(not drill.rejected(host) for host in drill.twin.hosts)
    assert not drill.changing(first)
    assert wait_tunnels(drill.twin.folder, HANDSHAKES, lambda text: None) is not None
    drill.plans |= plans
    for name, text in files.items():
        (drill.twin.sites / name).write_text(text)
    figure = f"confirmed at both ends {seconds:.1f} s after the second heard of it, nothing rejected"
    measured.setdefault(f"both ends of a tunnel change, {LAG:g} s apart", []).append((f"{what}, {first} first", figure))
