"""A thousand cycles leave no growth in memory, file descriptors, sockets or disk."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from reconciler.cycle.engine import Engine
from reconciler.kinds import KINDS
from reconciler.process.reconciler import Reconciler
from reconciler.report.report import Acquired, Candidate
from reconciler.sources.acquire import Acquirer
from reconciler.state.inventory import Inventory
from reconciler.state.store import Store
from reconciler.system import Context, drivers
from schema.plan import Address, Firewall, HostPlan, Link, Route, Sysctl
from tests.namespaces import private_network
from tests.unit.reconciler.sources.test_acquire import Scripted

pytestmark = pytest.mark.root

CYCLES = int(os.environ.get("GITWAN_CYCLES", "200"))
WARM = 50
MEMORY = 3.0
"""MiB that the interpreter's own pools may move by."""


def measure(state: Path) -> dict[str, float]:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return {
        "resident MiB": resident,
        "descriptors": len(links),
        "sockets": sum(link.startswith("socket:") for link in links),
        "files of state": sum(path.is_file() for path in state.rglob("*")),
        "KiB of state": sum(path.stat().st_size for path in state.rglob("*") if path.is_file()) / 1024,
    }


def plan(n: int) -> Candidate:
    routes = [Route(dst=f"10.{(n + i) % 200}.0.0/16", dev="br1") for i in range(40)]
    chain = Firewall(
        family="inet", table="filter", chain="GITWAN-INPUT", hook="INPUT",
        rules=(f"-p udp -m udp --dport {5000 + n % 7} -j ACCEPT",),
    )  # fmt: skip
    sysctl = Sysctl(name="net/ipv4/ip_forward", value=str(n % 2))
    bridge = [Link(name="br1", type="bridge"), Address(dev="br1", address=f"10.250.{n % 9}.1/24")]
    return Candidate.of(f"{n:040x}", HostPlan.of("h", [*bridge, *routes, chain, sysctl]))


def test_cycles_leave_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with private_network():
        store = Store(tmp_path)
        store.open()
        found = drivers(Context(lambda ref: b"", Inventory(tmp_path / "inventory.json"), tmp_path / "services"))
        engine = Engine(store=store, drivers=found, kinds=KINDS)
        source = Acquirer(host="h", store=store, source=Scripted())
        host = Reconciler(name="h", store=store, engine=engine, acquirer=source, say=lambda *_: None)
        before: dict[str, float] = {}
        for n in range(CYCLES):
            if n == WARM:
                before = measure(tmp_path)
            candidate = plan(n)
            assert host.converge(Acquired(commit=candidate.commit, candidate=candidate)).ok
        after = measure(tmp_path)
    with capsys.disabled():
        print(f"\n{CYCLES} cycles, each a new plan, from the {WARM}th on:")
        for name, value in after.items():
            print(f"  {name:<16} {before[name]:8.1f} -> {value:8.1f}")
    assert after["resident MiB"] - before["resident MiB"] < MEMORY
    for name in ("descriptors", "sockets", "files of state"):
        assert after[name] == before[name]
    assert after["KiB of state"] - before["KiB of state"] < 4
