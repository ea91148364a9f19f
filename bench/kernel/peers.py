"""5,000 WireGuard peers: the driver compared to `wg setconf`, and the change of one peer compared to `wg syncconf`.

It also measures 5,000 prefixes of three peers. Some of these move and some are removed while packets flow.
"""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from statistics import median

from bench.moves import measure as measure_moves
from reconciler.system.netlink import Netlink
from reconciler.system.peer import PeerDriver
from reconciler.system.wg_devices import Devices
from schema.plan import Change, Peer

PEERS = 5_000
TURNS = 3
DEV, MOVES = "wgbench", "wgmoves"
RATE = 6.0
"""Packets per second in each of thirty flows. An emulated processor cannot do more at the same time."""
CONF = Path("/tmp/peers.conf")
_PRIVATE = base64.b64encode(bytes(range(31)) + b"\x40").decode()


def measure(say: Callable[[str], None]) -> dict[str, float]:
    """Medians in seconds, and the number of sessions that the change of one peer affected."""
    peers = [_peer(n) for n in range(PEERS)]
    CONF.write_text(f"[Interface]\nPrivateKey = {_PRIVATE}\nListenPort = 51820\n" + "".join(map(_text, peers)))
    changed = peers[PEERS // 2].model_copy(update={"allowed_ips": ("10.99.0.1/32",)})
    other = Path("/tmp/changed.conf")
    other.write_text(CONF.read_text().replace(_text(peers[PEERS // 2]), _text(changed)))
    times: dict[str, list[float]] = {"setconf": [], "ours": [], "syncconf": [], "one": []}
    for turn in range(TURNS):
        theirs = f"theirs{turn}"
        _fresh(theirs)
        times["setconf"].append(_timed(lambda: _run("wg", "setconf", theirs, str(CONF))))  # noqa: B023 - called at once
        times["syncconf"].append(_timed(lambda: _run("wg", "syncconf", theirs, str(other))))  # noqa: B023
        _fresh(DEV)
        netlink = Netlink()
        devices = Devices(netlink)
        driver = PeerDriver(devices, lambda reference: b"", lambda name: name)
        create = [Change(None, peer) for peer in peers]
        times["ours"].append(_timed(lambda: _apply(driver, create)))  # noqa: B023
        before = _others()
        one = [Change(peers[PEERS // 2], changed)]
        times["one"].append(_timed(lambda: _apply(driver, one)))  # noqa: B023
        touched = len(before ^ _others())
        netlink.close()
        # Renamed and not deleted: under emulation the kernel takes a minute to delete that many peers.
        _run("ip", "link", "set", DEV, "name", f"ours{turn}", "alias", "")
    found = {name: median(values) for name, values in times.items()}
    say("  " + ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in found.items()))
    return found | {"touched": float(touched)}


def moves(say: Callable[[str], None]) -> dict[str, float]:
    """The number of packets that arrive and are lost while prefixes move and are removed."""
    _fresh(MOVES)
    _run("wg", "set", MOVES, "listen-port", "51821", "private-key", "/dev/stdin", given=_PRIVATE)
    netlink = Netlink()
    driver = PeerDriver(Devices(netlink), lambda reference: b"", lambda name: name)
    found = measure_moves(driver, MOVES, Path("/tmp"), RATE)
    netlink.close()
    say(f"  {found.lost} of {found.arrived + found.lost} packets lost")
    return {"arrived": found.arrived, "lost": found.lost}


def _peer(n: int) -> Peer:
    key = base64.b64encode(blake2b(n.to_bytes(4, "big"), digest_size=32).digest()).decode()
    address = f"10.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32"
    return Peer(dev=DEV, public_key=key, endpoint="192.0.2.1:51820", allowed_ips=(address,), keepalive=25)


def _text(peer: Peer) -> str:
    return (
        f"[Peer]\nPublicKey = {peer.public_key}\nAllowedIPs = {','.join(peer.allowed_ips)}\n"
        f"Endpoint = {peer.endpoint}\nPersistentKeepalive = {peer.keepalive}\n"
    )


def _fresh(name: str) -> None:
    _run("ip", "link", "add", name, "type", "wireguard")
    _run("ip", "link", "set", name, "alias", "gitwan")


def _apply(driver: PeerDriver, changes: list[Change]) -> None:
    failures = driver.apply(changes)
    if failures:
        raise RuntimeError(f"{failures[0]}")


def _others() -> set[str]:
    """Every peer except the changed one, as `wg` shows it."""
    one = _peer(PEERS // 2).public_key
    return {line for line in _run("wg", "show", DEV, "dump").splitlines()[1:] if not line.startswith(one)}


def _run(*words: str, given: str | None = None) -> str:
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
