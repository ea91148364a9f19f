"""Runs in the virtual machine: builds two hosts with real agents, measures, and writes the figures.

python -m bench.kernel.inside INPUT OUT      figures go to OUT/figures.json; lines that begin with `·` are shown
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import flows
from bench.kernel import peers
from bench.kernel.plans import AGENT, HOSTS, LAN, LEGS, UNDERLAY

RATE = 1
"""Mbit/s of each leg in each direction. An idle emulated processor encrypts fifteen times as much."""
SECONDS, SETTLE, TURNS = 6, 3, 4


@dataclass(frozen=True, slots=True)
class Streams:
    """Parallel TCP streams. Their windows are small, so that queues stay short: probes of tunnels wait in the same
    queues."""

    count: int
    window: str


BARE, SOME, FEW = Streams(32, "3K"), Streams(16, "6K"), Streams(5, "6K")
"""For the bond, which may carry all streams on one leg; for several tunnels; and for one tunnel, with a queue of the
same length."""
PORT, ONE_PORT, WIDE_PORT = 5201, 5202, 5203
SIDES = ("dport", "sport")
WIDE_DEV, WIDE_LISTEN = "wg-wide", 6000
WIDE_UNDERLAY = {"a": "198.51.100.1", "b": "198.51.100.2"}
WIDE = {"a": "192.168.99.1", "b": "192.168.99.2"}
FLOWS, PACE = 12, 20
PATIENCE = 600.0
"""Seconds to wait for an event before it counts as missing. On a busy machine everything takes longer."""
WORK = Path("/tmp/bench")
PYTHON = sys.executable


def say(text: str) -> None:
    print(f"· {text}\n", end="", flush=True)  # one call, because several threads print


def run(*words: str, space: str = "", check: bool = True) -> str:
    """The output of a command in a namespace. Raises RuntimeError with its output if it fails."""
    command = ["ip", "netns", "exec", space, *words] if space else list(words)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout


def background(*words: str, space: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["ip", "netns", "exec", space, *words], stdin=subprocess.DEVNULL)


def until(there: Callable[[], object], what: str, seconds: float = PATIENCE) -> float:
    """Wait until `there` returns a true value. Returns the seconds it took. Raises RuntimeError after `seconds`."""
    started = time.monotonic()
    while not there():
        if time.monotonic() - started > seconds:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - started


# The network


def build(given: Path) -> None:
    """Create two namespaces, three legs of equal rate between them, and a LAN and a key at each."""
    for host in HOSTS:
        run("ip", "netns", "add", host)
        run("ip", "link", "set", "lo", "up", space=host)
        run("ip", "link", "add", "lan0", "up", "type", "dummy", space=host)
        keys = WORK / host / "keys"
        keys.mkdir(parents=True)
        shutil.copy(given / f"{host}.key", keys / "private.key")
        (keys / "private.key").chmod(0o600)
        (WORK / host / "agent.yaml").write_text(AGENT.format(host=host, folder=WORK))
    for leg in LEGS:
        run("ip", "link", "add", leg, "netns", "a", "type", "veth", "peer", "name", leg, "netns", "b")
        for host in HOSTS:
            shape(host, leg, RATE)
            run("tc", "qdisc", "add", "dev", leg, "ingress", space=host)
    build_wide()


def shape(host: str, dev: str, rate: int) -> None:
    words = ["rate", f"{rate}mbit", "burst", "32kb", "limit", "4mb"]
    run("tc", "qdisc", "replace", "dev", dev, "root", "tbf", *words, space=host)


def build_wide() -> None:
    """Create the control: a manual tunnel over a separate wire, with the bandwidth of all legs together."""
    run("ip", "link", "add", "wide", "netns", "a", "type", "veth", "peer", "name", "wide", "netns", "b")
    keys = {host: run("wg", "genkey").strip() for host in HOSTS}
    for host, other in zip(HOSTS, reversed(HOSTS), strict=True):
        key = WORK / host / "wide.key"
        key.touch(0o600)
        key.write_text(keys[host])
        public = subprocess.run(["wg", "pubkey"], input=keys[other], capture_output=True, text=True, check=True).stdout
        run("ip", "address", "add", f"{WIDE_UNDERLAY[host]}/24", "dev", "wide", space=host)
        run("ip", "link", "set", "wide", "up", space=host)
        run("ip", "link", "add", WIDE_DEV, "mtu", "1420", "type", "wireguard", space=host)
        peer = ["peer", public.strip(), "endpoint", f"{WIDE_UNDERLAY[other]}:{WIDE_LISTEN}", "allowed-ips", "0.0.0.0/0"]
        run("wg", "set", WIDE_DEV, "listen-port", str(WIDE_LISTEN), "private-key", str(key), *peer, space=host)
        run("ip", "address", "add", f"{WIDE[host]}/24", "dev", WIDE_DEV, space=host)
        run("ip", "link", "set", WIDE_DEV, "up", space=host)


def status(host: str) -> dict[str, Any]:
    path = WORK / host / "state" / "status.json"
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def well(host: str, tunnels: int) -> bool:
    """Whether all conditions are true, and this number of tunnels is up."""
    found = status(host)
    conditions = found.get("conditions", ())
    rows = found.get("tunnels", ())
    return (
        bool(conditions)
        and all(condition["status"] == "True" for condition in conditions)
        and [row["up"] for row in rows] == [True] * tunnels
    )


def enter(given: Path, state: str, tunnels: int) -> None:
    """Give the agents another plan, and wait until both have applied it."""
    say(f"plan {state}: {tunnels} tunnel{'s' if tunnels > 1 else ''}")
    shutil.rmtree(WORK / "plans", ignore_errors=True)
    shutil.copytree(given / state, WORK / "plans")
    digests = {host: status(host).get("digest") for host in HOSTS}
    until(lambda: all(status(host).get("digest") not in (None, "", digests[host]) for host in HOSTS), "the new plan")
    took = until(lambda: all(well(host, tunnels) for host in HOSTS), f"well: {[status(h) for h in HOSTS]}")
    say(f"  well after {took:.0f} s")


@contextmanager
def agents() -> Iterator[None]:
    started = [
        background(PYTHON, "-m", "gitwan", "agent", "run", "--config", str(WORK / host / "agent.yaml"), space=host)
        for host in HOSTS
    ]
    try:
        yield
    finally:
        for agent in started:
            agent.terminate()
        for agent in started:
            agent.wait(30)


# Throughput


def throughput(ends: Mapping[str, str], streams: Streams, port: int = PORT) -> dict[str, float]:
    """The throughput of TCP streams from a to b in Mbit/s, and the share of retransmitted segments."""
    server = background("iperf3", "-s", "-1", "-B", ends["b"], "-p", str(port), space="b")
    until(lambda: f":{port} " in run("ss", "-ltn", space="b"), "iperf3")
    words = ["-P", str(streams.count), "-t", str(SECONDS), "-O", str(SETTLE), "-w", streams.window, "-J"]
    text = run("iperf3", "-c", ends["b"], "-B", ends["a"], "-p", str(port), *words, space="a")
    server.wait(30)
    end = json.loads(text)["end"]
    sent, received = end["sum_sent"], end["sum_received"]
    segment = 1368.0
    found = {
        "mbit": received["bits_per_second"] / 1e6,
        "retransmits": sent["retransmits"],
        "segments": sent["bytes"] / segment,
    }
    say(
        f"  to {ends['b']} port {port}: {found['mbit']:.2f} Mbit/s, "
        f"{found['retransmits']:.0f} of {found['segments']:.0f} segments again"
    )
    return found


Turn = dict[str, dict[str, float]]


def whole(tunnels: int) -> bool:
    """Whether this number of tunnels is healthy at both ends, and the tunnels share the buckets of each group
    evenly."""
    if not all(well(host, tunnels) for host in HOSTS):
        return False
    found = [shares(host) for host in HOSTS]
    return all(len(counts) == tunnels and counts[-1] - counts[0] <= 1 for counts in found)


def shares(host: str) -> list[int]:
    """The number of buckets of each tunnel in the first group of a host, in ascending order."""
    group = re.findall(r'"id":(\d+),"group":', run("ip", "-j", "nexthop", space=host))[0]
    members = re.findall(r"nhid (\d+)", run("ip", "nexthop", "bucket", "show", "id", group, space=host))
    return sorted(Counter(members).values())


def in_turns(tunnels: int) -> dict[str, float]:
    """Compare several tunnels with one of them, in short turns. A single tunnel with the same total bandwidth runs
    beside them.

    Losses of this control are not counted against the several tunnels: the processor was too slow to encrypt, or a
    packet came late and was sent again.
    """
    for host in HOSTS:
        shape(host, "wide", tunnels * RATE)
    turns: list[Turn] = []
    spoiled: list[Turn] = []
    with by_the_first_tunnel(ONE_PORT):
        while len(turns) < TURNS and len(spoiled) < 2 * TURNS:
            turn = {"one": throughput(LAN, FEW, ONE_PORT)}
            until(lambda: whole(tunnels), "all tunnels have their shares")
            with ThreadPoolExecutor() as threads:
                beside = threads.submit(throughput, WIDE, SOME, WIDE_PORT)
                turn["all"] = throughput(LAN, SOME)
                turn["wide"] = beside.result()
            # If the machine was too slow to answer probes, a tunnel was taken out, and there were fewer tunnels.
            (turns if whole(tunnels) else spoiled).append(turn)
    say(f"  {len(spoiled)} turns in which a tunnel was taken out")
    turns = (turns + spoiled)[:TURNS]
    found = {name: median(turn[name]["mbit"] for turn in turns) for name in turns[0]}
    found["ratio"] = median(
        ratio(turn["one"]["mbit"], turn["all"]["mbit"], turn["wide"]["mbit"], tunnels) for turn in turns
    )
    counts = [
        (sum(turn[name]["retransmits"] for turn in turns), sum(turn[name]["segments"] for turn in turns))
        for name in ("all", "wide")
    ]
    found["share"], found["share_wide"] = (again / sent for again, sent in counts)
    found["excess"] = excess(*counts)
    return found


def ratio(one: float, all_: float, wide: float, tunnels: int) -> float:
    """The throughput of all tunnels compared to one, corrected by the shortfall of the single wide tunnel."""
    return all_ / one * max(1.0, tunnels * one / wide)


def excess(counted: tuple[float, float], beside: tuple[float, float]) -> float:
    """The part of a share (retransmitted segments, segments) that is certainly above the control's share.

    Three standard deviations of such counts are attributed to chance. They are zero without retransmissions, and large
    with many.
    """
    shares = [again / sent for again, sent in (counted, beside)]
    chance = 3 * math.sqrt(sum(again / sent**2 for again, sent in (counted, beside)))
    return max(0.0, shares[0] - shares[1] - chance)


@contextmanager
def by_the_first_tunnel(port: int) -> Iterator[None]:
    """Traffic to this TCP port of b, and its answers, use the first tunnel."""
    rules = {host: ["ipproto", "tcp", side, str(port), "table", "100"] for host, side in zip(HOSTS, SIDES, strict=True)}
    for host, other in zip(HOSTS, reversed(HOSTS), strict=True):
        run("ip", "route", "add", f"{LAN[other]}/32", "dev", f"wg-{other}-1", "table", "100", space=host)
        run("ip", "rule", "add", "priority", "100", *rules[host], space=host)
    try:
        yield
    finally:
        for host in HOSTS:
            run("ip", "rule", "del", "priority", "100", space=host)
            run("ip", "route", "flush", "table", "100", space=host)


# Faults


def ways() -> dict[int, str]:
    """The tunnel of each flow."""
    found = {}
    for flow in range(FLOWS):
        words = f"ipproto udp sport {flows.SOURCES + flow} dport 5400".split()
        route = run("ip", "route", "get", LAN["b"], "from", LAN["a"], *words, space="a")
        found[flow] = re.findall(r"dev (\S+)", route)[0]
    return found


@contextmanager
def paced(name: str, found: dict[int, flows.Flow]) -> Iterator[None]:
    """Send flows from a to b at a steady rate while the block runs."""
    file = WORK / f"{name}.arrivals"
    receiver = background(PYTHON, "-m", "bench.flows", "receive", "5400", str(file), space="b")
    until(file.with_suffix(".ready").exists, "a receiver")
    # The source address is set explicitly: the kernel hashes a socket's flow before it chooses an address.
    words = ["send", LAN["b"], "5400", str(FLOWS), str(PACE), LAN["a"]]
    sender = background(PYTHON, "-m", "bench.flows", *words, space="a")
    try:
        time.sleep(6)  # the start of the senders is not part of the measurement
        yield
        time.sleep(1)
    finally:
        sender.terminate()
        sender.wait(10)
        receiver.terminate()
        receiver.wait(30)
    found |= flows.read(file)


def handshakes() -> dict[str, float]:
    """Device -> time of its last handshake."""
    lines = run("wg", "show", "all", "latest-handshakes", space="a").splitlines()
    return {line.split()[0]: float(line.split()[2]) for line in lines}


def control() -> dict[str, float]:
    """No fault: the behaviour of flows on this machine by itself."""
    found: dict[int, flows.Flow] = {}
    with paced("control", found):
        started = time.time()
        time.sleep(10)
    gap = max(flow.gap(PACE, started) for flow in found.values())
    say(f"  control: longest gap {gap * 1000:.0f} ms")
    return {"gap": gap, "lost": sum(flow.lost for flow in found.values())}


@contextmanager
def dropped(device: str) -> Iterator[None]:
    """Drop a tunnel's packets on every leg in both directions, by its port at a.

    This does not use iptables. The agents would then check their own rules, which no network fault causes.
    """
    port = run("wg", "show", device, "listen-port", space="a").strip()
    for host, side in (("b", "sport"), ("a", "dport")):
        match = f"protocol ip prio 1 u32 match ip protocol 17 0xff match ip {side} {port} 0xffff action drop"
        script = WORK / f"drop-{host}"
        script.write_text("".join(f"filter add dev {leg} ingress {match}\n" for leg in LEGS))
        run("tc", "-batch", str(script), space=host)
    try:
        yield
    finally:
        for host in HOSTS:
            script = WORK / f"pass-{host}"
            script.write_text("".join(f"filter del dev {leg} ingress prio 1\n" for leg in LEGS))
            run("tc", "-batch", str(script), space=host)


def blocked() -> dict[str, float]:
    """Drop packets of one tunnel's UDP port in both directions, permanently."""
    found: dict[int, flows.Flow] = {}
    with paced("blocked", found):
        before = ways()
        device = before[0]  # any tunnel that carries flows: one without flows would show nothing
        hit = {flow for flow, way in before.items() if way == device}
        started = time.time()
        with dropped(device):
            time.sleep(8)
            after = ways()
            ended = time.time()
    others = set(before) - hit
    result = {
        "hit": len(hit),
        "gap": max(found[flow].gap(PACE, started, ended) for flow in hit),
        "others": max(found[flow].gap(PACE, started, ended) for flow in others),
        "moved": sum(before[flow] != after[flow] for flow in others),
        "lost": sum(found[flow].lost for flow in others),
    }
    say(f"  blocked: {result}")
    until(lambda: all(well(host, 3) for host in HOSTS), "the tunnel is back")
    return result


def share_back() -> dict[str, float]:
    """Seconds from the end of a fault until the tunnel has its share of the buckets, while flows never pause."""
    with paced("healed", {}):
        with dropped("wg-b-3"):
            until(lambda: len(shares("a")) == 2, "the tunnel is out")
        took = until(lambda: len(found := shares("a")) == 3 and found[0] >= 341, "its share")
    say(f"  share back after {took:.0f} s: {shares('a')}")
    return {"seconds": took}


def leg_cut() -> dict[str, float]:
    """One of three legs loses its carrier."""
    found: dict[int, flows.Flow] = {}
    with paced("leg", found):
        before, sessions = ways(), handshakes()
        started = time.time()
        run("ip", "link", "set", LEGS[1], "down", space="b")
        time.sleep(8)
        ended = time.time()
        after, later = ways(), handshakes()
    run("ip", "link", "set", LEGS[1], "up", space="b")
    now = time.time()
    resets = sum(later[dev] != sessions[dev] and now - sessions[dev] < 110 for dev in sessions)
    result = {
        "gap": max(flow.gap(PACE, started, ended) for flow in found.values()),
        "resets": resets,
        "moved": sum(before[flow] != after[flow] for flow in before),
    }
    say(f"  leg cut: {result}")
    return result


def main(given: Path, out: Path) -> None:
    started = time.monotonic()
    figures: dict[str, dict[str, float]] = {}

    def note(name: str, found: dict[str, float]) -> None:
        figures[name] = found
        (out / "figures.json").write_text(json.dumps(figures))

    say("peers: 5,000 of one device")
    note("peers", peers.measure(say))
    say("prefixes: 200 moves and 200 removals among 5,000")
    note("moves", peers.moves(say))
    WORK.mkdir()
    build(given)
    shutil.copytree(given / "layer2", WORK / "plans")
    with agents():
        say("plan layer2: 1 tunnel")
        until(lambda: all(well(host, 1) for host in HOSTS), "the first plan")
        note("layer2", throughput(UNDERLAY, BARE))
        enter(given, "1", 1)
        note("layer3+4", throughput(UNDERLAY, BARE))
        for tunnels in (2, 3):
            enter(given, str(tunnels), tunnels)
            note(f"{tunnels} tunnels", in_turns(tunnels))
        note("control", control())
        note("blocked", blocked())
        note("leg", leg_cut())
        note("healed", share_back())
        enter(given, "100", 100)
        note("many", {"alive": min(len(status(host)["tunnels"]) for host in HOSTS)})
    say(f"all of it in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
