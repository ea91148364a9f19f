"""Resources that loops add to a plan: one more peer among many, checks of many peers, and changes while a commit waits.

python -m bench.overlays memory | wireguard | trial | lateness     inside namespaces of its own
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.private import enter, in_private, run
from bench.rows import OUT, Board, Row
from reconciler.converge.touched import Touched
from reconciler.cycle.engine import Engine
from reconciler.cycle.probes import Check
from reconciler.kinds import KINDS, UNANNOUNCED
from reconciler.kinds.base import ALIAS, Failure, Observed, Session
from reconciler.process.agent import Agent
from reconciler.process.reconciler import Reconciler
from reconciler.report.report import Acquired, Candidate
from reconciler.sources.acquire import Acquirer
from reconciler.sources.compile import compile_tree
from reconciler.state.config import parse
from reconciler.state.inventory import Inventory
from reconciler.state.store import Store
from reconciler.system import Context, drivers
from reconciler.system.events import KernelEvents
from reconciler.system.wg import PeerSet
from reconciler.system.wg_key import decode, generate_private, public_key
from reconciler.system.wg_uapi import UapiBackend
from schema.plan import (
    Change,
    HostPlan,
    Key,
    Link,
    Member,
    Nexthop,
    Peer,
    ProbeTarget,
    Resource,
    Route,
    Runtime,
    SecretRef,
    WatchedTunnel,
    Wireguard,
)
from schema.plan import Watch as LinkWatch

DEV = "wg-clients"
SIZES = (1_000, 10_000, 100_000)
MANY = 10_000
TURNS = 300
EVICTED = 20
SWEEP_SECONDS = 40.0
SILENT = 20.0
"""Seconds for which the plan on trial probes a target that does not answer."""
ROUTES = 20_000
TICK = 0.005


def measure(board: Board) -> None:
    with board.working("one more overlay peer among many, in memory"):
        found = in_private("bench.overlays", "memory")
    for size in SIZES:
        board.add(Row(f"one more overlay peer among {size:,}, p95", found[str(size)], "ms", 0.5, note="in memory"))
    growth = found[str(SIZES[-1])] / found[str(SIZES[0])]
    board.add(Row("the same among 100,000 against 1,000", growth, "x", 1.5))
    with board.working("overlay peers on wireguard-go"):
        found = in_private("bench.overlays", "wireguard")
    board.add(
        Row(f"one more among {MANY:,} on wireguard-go, p95", found["one"] / found["bare"], "x the bare message", 5.0,
            note=f"{found['one']:.2f} ms; {found['bare']:.2f} ms")
    )  # fmt: skip
    board.add(
        Row(f"{EVICTED} of them evicted, p95", found["evicted"] / found["bare"], "x the bare message", 10.0,
            note=f"{found['evicted']:.2f} ms")
    )  # fmt: skip
    board.add(Row(f"quiet sweeps of {MANY:,} overlay peers", found["sweep"], "% of a core", 3.0))
    board.add(Row("status.json with them against with 10", found["status"], "x", 1.01))
    board.add(Row("memory of ours for each of them", found["memory"], "KB", 1.5))
    with board.working("what passes a commit that waits"):
        found = in_private("bench.overlays", "trial")
    board.add(
        Row("a dead tunnel's flows move while a commit waits", found["moved"] / found["control"], "x without one", 2.0,
            note=f"{found['moved']:.2f} ms; {found['control']:.2f} ms")
    )  # fmt: skip
    board.add(Row("a delta meanwhile, p95", found["delta"], "ms", 20.0))
    with board.working(f"a plan of {ROUTES:,} routes arrives"):
        found = in_private("bench.overlays", "lateness")
    board.add(
        Row(f"event loop late while {ROUTES:,} routes arrive", found["late"], "ms", 50.0,
            note=f"fetched to confirmed in {found['seconds']:.1f} s")
    )  # fmt: skip


# The host


def _key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


def client(number: int) -> Peer:
    address = f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32"
    return Peer.of(DEV, _key(number + 1), (address,))


@dataclass
class Memory:
    """A host in memory: a device's peers, or links, in a dictionary, and the time that was spent in it."""

    stored: dict[Key, Observed[Any]] = field(default_factory=dict)
    spent: float = 0.0

    def devices(self) -> Collection[str]:
        return {DEV}

    def observe(self) -> list[Observed[Any]]:
        return list(self.stored.values())

    def observe_on(self, devices: Collection[str]) -> list[Observed[Any]]:
        return list(self.stored.values()) if DEV in devices else []

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        began = time.perf_counter()
        for change in changes:
            if change.after is None:
                self.stored.pop(change.resource.key, None)
            else:
                session = Session(None, None) if isinstance(change.after, Peer) else None
                self.stored[change.resource.key] = Observed(change.after, ALIAS, session)
        self.spent += time.perf_counter() - began
        return []


class _Source:
    name = "bench"

    def __init__(self) -> None:
        self.commit = "c1"
        self.plans: Callable[[str], tuple[HostPlan, str]] = lambda commit: (HostPlan.of("bench", []), "")

    def fetch(self) -> str:
        return self.commit

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        return self.plans(commit)


def _host(folder: Path, found: Any, source: _Source | None = None, **options: Any) -> Reconciler:
    store = Store(folder)
    store.open()
    engine = Engine(store=store, drivers=found, kinds=KINDS, **options)
    acquirer = Acquirer(host="bench", store=store, source=source or _Source())
    return Reconciler(name="bench", store=store, engine=engine, acquirer=acquirer, say=lambda level, text: None)


def _apply(host: Reconciler, commit: str, resources: Sequence[Resource], runtime: Runtime | None = None) -> None:
    plan = HostPlan.of("bench", resources, runtime)
    report = host.converge(Acquired(commit, Candidate.of(commit, plan)))
    if report.error is not None or report.conflicts:
        raise RuntimeError(f"{report.result}: {report.error}, {report.conflicts}")


def _real(folder: Path) -> Any:
    def secret(reference: SecretRef) -> bytes:
        return (folder / "key").read_bytes()

    return drivers(Context(secret, Inventory(folder / "inventory.json"), folder / "services"))


def _device(folder: Path) -> list[Resource]:
    private = generate_private()
    (folder / "key").write_bytes(private)
    reference = SecretRef(secret="private-key", fingerprint=public_key(private))
    return [Link(name=DEV, type="wireguard", mtu=1420), Wireguard(dev=DEV, private_key=reference, listen_port=5000)]


def p95(times: Sequence[float]) -> float:
    """The 95th percentile in milliseconds. `times` are in seconds."""
    return quantiles(times, n=20)[-1] * 1000


# The measures


def _memory(folder: Path) -> dict[str, float]:
    found = {}
    for size in SIZES:
        memory = {kind: Memory() for kind in ("link", "wireguard", "peer")}
        host = _host(folder / str(size), memory)
        _apply(host, "c1", _device(folder))
        host.change("jit", [client(number) for number in range(size)])
        times = []
        gc.collect()
        gc.freeze()
        for turn in range(TURNS):
            one, spent = client(size + turn), sum(driver.spent for driver in memory.values())
            began = time.perf_counter()
            host.change("jit", [one])
            times.append(time.perf_counter() - began - sum(driver.spent for driver in memory.values()) + spent)
        if len(memory["peer"].stored) != size + TURNS:
            raise RuntimeError("not all of them are there")
        found[str(size)] = p95(times)
        del host, memory
        gc.unfreeze()
    return found


def _resident() -> float:
    gc.collect()
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] == "Private_Dirty:")


def _wireguard(folder: Path) -> dict[str, float]:
    enter()
    host = _host(folder, _real(folder))
    _apply(host, "c1", _device(folder))
    host.change("jit", [client(number) for number in range(10)])
    host.converge()
    host.reporter.write_status()
    small = (folder / "status.json").stat().st_size
    before = _resident()
    for start in range(10, MANY, 1000):
        host.change("jit", [client(number) for number in range(start, min(MANY, start + 1000))])
    host.converge()
    host.reporter.write_status()
    large = (folder / "status.json").stat().st_size
    memory = (_resident() - before) / (MANY - 10) / 1000
    found: dict[str, list[float]] = {"one": [], "bare": [], "evicted": []}
    backend, gone = UapiBackend(), 0
    for turn in range(TURNS):
        found["one"].append(_timed(lambda turn=turn: host.change("jit", [client(MANY + turn)])))  # type: ignore[misc]
        other = PeerSet(
            decode(client(2 * MANY + turn).public_key),
            replace_allowed_ips=True,
            allowed_ips=client(2 * MANY + turn).allowed_ips,
        )
        found["bare"].append(_timed(lambda other=other: backend.set_peers(DEV, [other])))  # type: ignore[misc]
        backend.set_peers(DEV, [PeerSet(other.public_key, remove=True)])
        if turn % 5 == 0:
            names = [("peer", client(gone + n).key) for n in range(EVICTED)]
            found["evicted"].append(_timed(lambda names=names: host.change("jit", drop=names)))  # type: ignore[misc]
            host.change("jit", [client(gone + n) for n in range(EVICTED)])
            gone += EVICTED
    there = subprocess.run(["wg", "show", DEV, "peers"], capture_output=True, text=True, check=True).stdout
    if len(there.split()) != MANY + TURNS:
        raise RuntimeError(f"{len(there.split())} peers are there")
    return {
        "one": p95(found["one"]), "bare": p95(found["bare"]), "evicted": p95(found["evicted"]),
        "sweep": _sweeps(host), "status": large / small, "memory": memory,
    }  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _sweeps(host: Reconciler) -> float:
    """The share of a core that the agent's regular checks use, in per cent."""
    host.sweep(UNANNOUNCED)
    began, spent = time.monotonic(), time.process_time()
    while time.monotonic() - began < SWEEP_SECONDS:
        time.sleep(2.0)
        host.sweep(UNANNOUNCED)
    return (time.process_time() - spent) / (time.monotonic() - began) * 100


class _Silent:
    """Probes that always answer at first. Once it is silent, targets answer only before a change."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()
        self.silent = False
        self.before = True

    def answered(self, checks: Sequence[Check], seconds: float) -> set[Check]:
        before, self.before = self.before, False
        if before or not self.silent:
            return set(checks)
        self.asked.set()
        self.over.wait(seconds)
        return set()

    def provoke(self, tunnels: object) -> None:
        pass

    def git(self) -> Check | None:
        return None


def _trial(folder: Path) -> dict[str, float]:
    """A tunnel dies, and deltas are published, while a commit waits for an answer that does not come."""
    enter(*(f"eth{n}" for n in range(4)))
    devs = [f"eth{n}" for n in range(4)]
    prober = _Silent()
    host = _host(folder, _real(folder), prober=prober)
    ways = [Nexthop(id=117_000_100 + n, family="inet", dev=dev) for n, dev in enumerate(devs)]
    group = Nexthop(id=117_000_200, group=tuple(Member(id=way.id) for way in ways))
    watched = tuple(WatchedTunnel(dev=dev, public_key=_key(9)) for dev in devs)
    link = LinkWatch(
        name="a~b", source="fe80::1", target="fe80::2", tunnels=watched, size=1420, interval=1, misses=3, loss=0.2,
        hold=1,
    )  # fmt: skip
    base = [*ways, group, Route(dst="10.20.0.0/16", nhid=group.id)]
    more = [*base, Route(dst="10.30.0.0/16", nhid=group.id)]
    _apply(host, "c1", base, Runtime(watches=(link,)))
    host.move(devs, frozenset(devs))
    found = {"control": _moves(host, devs)}
    runtime = Runtime(watches=(link,), deadline=2 * SILENT, probes=(ProbeTarget(kind="ping", target="192.0.2.9"),))
    waiting = HostPlan.of("bench", more, runtime)
    prober.silent, prober.before = True, True
    converge = _holding(host, lambda: host.converge(Acquired("c2", Candidate.of("c2", waiting))))
    changing = threading.Thread(target=converge, daemon=True)
    changing.start()
    if not prober.asked.wait(30):
        raise RuntimeError("nothing was asked")
    found["moved"] = _moves(host, devs)
    deltas = []
    for n in range(100):
        route = Route(dst=f"10.40.{n}.0/24", dev="eth0")
        deltas.append(_timed(_holding(host, lambda route=route: host.change("jit", [route]))))  # type: ignore[misc]
    if not changing.is_alive():
        raise RuntimeError("the commit did not wait that long")
    found["delta"] = p95(deltas)
    prober.over.set()
    changing.join(60)
    return found


def _holding(host: Reconciler, work: Callable[[], object]) -> Callable[[], object]:
    def held() -> object:
        with host.engine.lane.hold():
            return work()

    return held


def _moves(host: Reconciler, devs: Sequence[str]) -> float:
    """Milliseconds from a verdict until the kernel's group has changed."""
    times = []
    for turn in range(30):
        alive = frozenset(devs) - {devs[turn % len(devs)]}
        times.append(_timed(_holding(host, lambda alive=alive: host.move(devs, alive))))  # type: ignore[misc]
    members = json.loads(run("ip", "-j", "nexthop", "show", "id", "117000200"))[0]["group"]
    if len(members) != len(devs) - 1:
        raise RuntimeError(f"the group has {members}")
    host.move(devs, frozenset(devs))
    return median(times) * 1000


def _lateness(folder: Path) -> dict[str, float]:
    """The delay of a timer in the agent's event loop, from the push of a large plan until its confirmation."""
    enter("eth0")
    source = _Source()
    routes = [Route(dst=f"10.{n >> 8}.{n & 255}.0/24", dev="eth0") for n in range(ROUTES)]
    answer = folder / "answer"
    answer.write_bytes(b'{"plan":' + HostPlan.of("bench", routes).canonical() + b',"problems":[]}')

    def plan(commit: str) -> tuple[HostPlan, str]:
        if commit == "c1":
            return HostPlan.of("bench", []), ""
        return compile_tree(["sh", "-c", f"cat >/dev/null; cat {answer}"], "bench", {})

    source.plans = plan
    touched = Touched(KernelEvents())
    host = _host(folder / "state", _real(folder), source, covered=touched.covered)
    config = parse(
        f"{{host: bench, source: {{git: /w}}, socket: {folder}/agent.sock, metrics: off, poll: {{interval: 1h}}}}", "a"
    )
    gc.collect()
    gc.freeze()
    return asyncio.run(_listen(Agent(host, config, touched), host, source))


async def _listen(agent: Agent, host: Reconciler, source: _Source) -> dict[str, float]:
    clock = asyncio.get_running_loop().time
    running = asyncio.create_task(agent.run())
    late = [0.0]

    async def tick() -> None:
        while True:
            began = clock()
            await asyncio.sleep(TICK)
            late.append(clock() - began - TICK)

    async def confirmed(commit: str) -> None:
        async with asyncio.timeout(120):
            while (
                host.reporter.last is None
                or host.reporter.last.confirmed is None
                or host.reporter.last.confirmed.commit != commit
            ):
                await asyncio.sleep(TICK)

    await confirmed("c1")
    ticking = asyncio.create_task(tick())
    began = clock()
    source.commit = "c2"
    agent.poll_now()
    await confirmed("c2")
    seconds = clock() - began
    await asyncio.sleep(2.0)  # the events of 20,000 routes, and the observation that they trigger
    ticking.cancel()
    agent.stop()
    await running
    return {"late": max(late) * 1000, "seconds": seconds}


@contextmanager
def _folder() -> Iterator[Path]:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        yield Path(folder)


INSIDE = {"memory": _memory, "wireguard": _wireguard, "trial": _trial, "lateness": _lateness}

if __name__ == "__main__":
    with _folder() as folder:
        print(json.dumps(INSIDE[sys.argv[1]](folder)), flush=True)
    os._exit(0)
