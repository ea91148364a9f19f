"""Packets at a steady rate through WireGuard, while prefixes move between peers and others are removed. Counts the
losses.

One device has three real peers in another namespace. They share 5,000 prefixes. Packets go to prefixes of all three
peers and to some moving prefixes, and also come from each peer. The driver moves and removes one prefix at a time.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import flows
from reconciler.system.peer import PeerDriver
from reconciler.system.wg_key import generate_private, public_key
from schema.plan import Change, Peer

PREFIXES, MOVES, REMOVALS = 5_000, 200, 200
FARS = ("far0", "far1", "far2")
SPACE, NEAR, OUTER, INNER = "far", "10.0.0.1", ("192.0.2.1", "192.0.2.2"), "10.64.0.0/16"
STAYING, MOVING = 12, 6
"""Flows to prefixes that stay, and to prefixes that move. The number of returning flows is that of the former."""
PORT, DISCARD = 5400, 9
ROOM = "10000"
"""The queue length in packets in front of wireguard-go. A busy machine then delays packets, but does not lose them."""
PAUSE = 0.01
"""Seconds between two changes. Packets arrive during this time."""
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    arrived: int
    lost: int


def run(*words: str, given: str | None = None, check: bool = True) -> str:
    """The output of a command. Raises RuntimeError with its output if it fails."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def measure(driver: PeerDriver, device: str, folder: Path, rate: float) -> Result:
    """Send packets in 30 flows of `rate` packets per second each. `device` is ours, with a key and a port but no peer.

    Uses the names of `FARS` and `SPACE`, and ends everything that it starts. Raises RuntimeError.
    """
    with ExitStack() as stack:
        peers = stack.enter_context(_ground(driver, device))
        sources = [_address(n) for n in range(STAYING)]
        going = [*sources, *(_address(STAYING + n) for n in range(MOVING))]
        files = [folder / "going", folder / "coming"]
        for file, space in zip(files, ((SPACE,), ()), strict=True):
            stack.enter_context(receiver(file, *space))
        greet(device, sources[: len(FARS)])
        stack.enter_context(sender(going, [NEAR], rate))
        stack.enter_context(sender([NEAR], sources, rate, SPACE))
        time.sleep(1.0)  # wait until packets of all flows are on their way
        _move(driver, peers)
        time.sleep(1.0)
    found = [flow for file in files for flow in flows.read(file).values()]
    if len(found) != len(going) + len(sources):
        raise RuntimeError(f"only {len(found)} flows arrived")
    return Result(sum(len(flow.arrivals) for flow in found), sum(flow.lost for flow in found))


def _address(n: int) -> str:
    return f"10.64.{n >> 8}.{n & 255}"


def _move(driver: PeerDriver, peers: list[Peer]) -> None:
    """Move one prefix to the next peer, and remove another one, again and again."""
    for turn in range(max(MOVES, REMOVALS)):
        if turn < MOVES:
            prefix = f"{_address(STAYING + turn % MOVING)}/32"
            holder = next(n for n, peer in enumerate(peers) if prefix in peer.allowed_ips)
            _change(driver, peers, {holder: ("", prefix), (holder + 1) % len(peers): (prefix, "")})
        if turn < REMOVALS:
            prefix = f"{_address(PREFIXES - 1 - turn)}/32"
            holder = next(n for n, peer in enumerate(peers) if prefix in peer.allowed_ips)
            _change(driver, peers, {holder: ("", prefix)})


def _change(driver: PeerDriver, peers: list[Peer], edits: dict[int, tuple[str, str]]) -> None:
    """Add or remove a prefix at each of these peers, in one call."""
    changes = []
    for n, (gain, loss) in edits.items():
        ips = {*peers[n].allowed_ips, gain} - {loss, ""}
        after = peers[n].model_copy(update={"allowed_ips": tuple(sorted(ips))})
        changes.append(Change(peers[n], after))
        peers[n] = after
    _apply(driver, changes)
    time.sleep(PAUSE)


def _apply(driver: PeerDriver, changes: list[Change]) -> None:
    failures = driver.apply(changes)
    if failures:
        raise RuntimeError(f"{failures[0]}")


# The network


@contextmanager
def _ground(driver: PeerDriver, device: str) -> Iterator[list[Peer]]:
    """The local peers of three remote devices, with their prefixes."""
    near_key, port = (run("wg", "show", device, word).strip() for word in ("public-key", "listen-port"))
    with far_end(FARS, near_key, f"{OUTER[0]}:{port}") as keys:
        run("ip", "address", "add", f"{NEAR}/32", "dev", device)
        run("ip", "link", "set", device, "txqueuelen", ROOM, "up")
        run("ip", "route", "add", INNER, "dev", device)
        for n in range(STAYING):
            # Packets from a prefix must come from its own peer, or WireGuard rejects them.
            run("ip", "-n", SPACE, "rule", "add", "from", _address(n), "lookup", str(100 + n % len(FARS)))
        peers = [_peer(device, n, key) for n, key in enumerate(keys)]
        _apply(driver, [Change(None, peer) for peer in peers])
        yield peers


@contextmanager
def far_end(names: Sequence[str], near_key: str, endpoint: str) -> Iterator[list[str]]:
    """A namespace at the other end of a cable, with a WireGuard device for each name. Yields their public keys.

    It answers for every address of `INNER`, and listens on ports from 51900 on.
    """
    run("ip", "netns", "add", SPACE)
    try:
        run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", SPACE)
        for space, address in (((), OUTER[0]), (("-n", SPACE), OUTER[1])):
            run("ip", *space, "address", "add", f"{address}/24", "dev", "cable")
            run("ip", *space, "link", "set", "cable", "up")
        run("ip", "-n", SPACE, "link", "set", "lo", "up")
        run("ip", "-n", SPACE, "route", "add", "local", INNER, "dev", "lo")
        for scope in ("all", "default"):
            run("ip", "netns", "exec", SPACE, "sysctl", "-qw", f"net.ipv4.conf.{scope}.rp_filter=0")
        yield [_far(n, name, near_key, endpoint) for n, name in enumerate(names)]
    finally:
        # wireguard-go ends with its device.
        for name in names:
            run("ip", "-n", SPACE, "link", "del", name, check=False)
        run("ip", "link", "del", "cable", check=False)
        run("ip", "netns", "del", SPACE, check=False)


def _far(n: int, name: str, near_key: str, endpoint: str) -> str:
    """Create a peer in the other namespace, with the kernel's WireGuard or else wireguard-go. Returns its public
    key."""
    inside = ("ip", "netns", "exec", SPACE)
    try:
        run("ip", "-n", SPACE, "link", "add", name, "type", "wireguard")
    except RuntimeError:
        run(*inside, "wireguard-go", name)
    private = generate_private()
    run(
        *inside, "wg", "set", name, "listen-port", str(_port(n)), "private-key", "/dev/stdin",
        "peer", near_key, "allowed-ips", f"{NEAR}/32", "endpoint", endpoint,
        given=base64.b64encode(private).decode(),
    )  # fmt: skip
    run("ip", "-n", SPACE, "link", "set", name, "txqueuelen", ROOM, "up")
    run("ip", "-n", SPACE, "route", "add", f"{NEAR}/32", "dev", name, "table", str(100 + n))
    return public_key(private)


def _port(n: int) -> int:
    return 51900 + n


def _peer(device: str, n: int, key: str) -> Peer:
    ips = tuple(sorted(f"{_address(number)}/32" for number in range(n, PREFIXES, len(FARS))))
    return Peer(dev=device, public_key=key, endpoint=f"{OUTER[1]}:{_port(n)}", allowed_ips=ips)


def greet(device: str, addresses: Sequence[str]) -> None:
    """Start sessions with the peers of these addresses before any packet counts.

    WireGuard queues at most 128 packets during a handshake. If both ends begin a handshake at the same time, it may
    take five seconds.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as greeter:
        for address in addresses:
            greeter.sendto(b"", (address, DISCARD))
    until(lambda: _handshakes(device) >= len(addresses), "every peer's handshake")


def _handshakes(device: str) -> int:
    lines = run("wg", "show", device, "latest-handshakes").splitlines()
    return sum(not line.endswith("\t0") for line in lines)


# The packets


@contextmanager
def ahead() -> Iterator[None]:
    """Run the processes started in this block with priority over everything else on this machine.

    If wireguard-go gets no processor time for seconds, it drops packets that exceed its own queues. These losses are
    not the ones to be measured. The block uses real-time priority, because a nice value has an effect only within a
    session (`autogroup` in sched(7)).
    """
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, parameters)


def _inside(space: str) -> list[str]:
    return ["ip", "netns", "exec", space] if space else []


@contextmanager
def receiver(file: Path, space: str = "") -> Iterator[None]:
    words = [*_inside(space), sys.executable, "-m", "bench.flows", "receive", str(PORT), str(file)]
    with _running(words):
        until(file.with_suffix(".ready").exists, "a receiver")
        file.with_suffix(".ready").unlink()
        yield


@contextmanager
def sender(targets: list[str], sources: list[str], rate: float, space: str = "") -> Iterator[None]:
    many = str(max(len(targets), len(sources)))
    words = ["send", ",".join(targets), str(PORT), many, f"{rate:g}", ",".join(sources)]
    with _running([*_inside(space), sys.executable, "-m", "bench.flows", *words]):
        yield


@contextmanager
def _running(words: list[str]) -> Iterator[None]:
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def until(there: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.05)
