"""Keys rotate under traffic, while hosts look for commits at different times: no packet and no connection is lost."""

from __future__ import annotations

import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from lab.client import ask
from lab.repository import git
from tests.lab.edits import edit
from tests.lab.twin import PATIENCE, Twin, cli, eventually, unharmed

pytestmark = [pytest.mark.root, pytest.mark.lab, pytest.mark.timeout(600)]

AMS, FRA, HOME = "10.10.0.100", "10.20.0.100", "192.168.10.100"
INTERVAL = 0.1
HANDSHAKE_AGAIN = 5.0
"""Seconds after which WireGuard tries again (REKEY_TIMEOUT): a lost session costs as much, a busy machine does not."""
LATER = 3.0
"""Seconds by which one host looks for a commit after the other."""


_ports = count(5301)


class Stream:
    """One TCP connection of iperf3 for as long as it is open."""

    def __init__(self, twin: Twin, source: str, target: str, address: str) -> None:
        self.name = f"{source} to {target}"
        self._twin, self._source = twin, source
        self._output = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - closed by close
        port = next(_ports)
        twin.run(target, "sh", "-c", f"iperf3 -s -1 -D -p {port} >/dev/null 2>&1")
        eventually(lambda: f":{port} " in twin.run(target, "ss -ltn"), what=f"{target}: iperf3")
        command = f"echo $$; exec iperf3 -c {address} -p {port} -b 4M -l 4K -t 900 -i {INTERVAL} --forceflush"
        with Path("/dev/null").open("r+b") as null:
            files = [null.fileno(), self._output.fileno(), self._output.fileno()]
            arguments = {"space": source, "command": ["sh", "-c", command]}
            self._thread = threading.Thread(target=ask, args=(twin.folder, "exec", files), kwargs=arguments)
            self._thread.start()
            eventually(lambda: len(self._intervals()) > 10, what=f"{self.name}: a stream")

    def _text(self) -> str:
        return Path(self._output.name).read_text()

    def _intervals(self) -> list[float]:
        """Bytes in each interval, in the unit that iperf3 chose; only whether there are any matters."""
        return [float(found) for found in re.findall(r"-\d+\.\d+\s+sec\s+([\d.]+) [KMG]?Bytes", self._text())]

    def close(self) -> tuple[float, float]:
        """Ends it: how long it ran and its longest gap, in seconds. It has been one connection all the time."""
        more = len(self._intervals()) + 10
        eventually(lambda: len(self._intervals()) > more, what=f"{self.name}: it goes on")
        intervals = self._intervals()
        self._twin.run(self._source, f"kill -INT {self._text().split(maxsplit=1)[0]}")
        self._thread.join(PATIENCE)
        text = self._text()
        self._output.close()
        assert text.count("connected to") == 1, text[-500:]
        assert "receiver" in text or "client has terminated" in text, text[-500:]
        longest = run = 0
        for amount in intervals:
            run = run + 1 if amount == 0 else 0
            longest = max(longest, run)
        return len(intervals) * INTERVAL, longest * INTERVAL


@pytest.fixture(scope="module")
def unhurried(twin: Twin) -> Twin:
    """The lab with agents that look for commits only when they are told to."""
    (twin.folder.bare / "hooks" / "post-receive").unlink()
    for host in twin.hosts:
        path = twin.folder.host(host) / "agent.yaml"
        path.write_text(path.read_text().replace("interval: 30s", "interval: 1h"))
        twin.restart(host, signal.SIGTERM)
    twin.settle()
    return twin


@contextmanager
def streaming(twin: Twin, measured: dict[str, list[tuple[str, str]]], what: str) -> Iterator[None]:
    """TCP and pings from ams to fra, over three tunnels, and from home to fra, over those and one more."""
    streams = [Stream(twin, "ams-server", "fra-server", FRA), Stream(twin, "ireland-vm", "home-pc", HOME)]
    with unharmed(twin, ("ams-server", FRA), ("virginia-vm", HOME), ("singapore-vm", AMS)):
        yield
    for stream in streams:
        seconds, gap = stream.close()
        print(f"{what}: {stream.name}: {seconds:.1f} s, longest gap {gap:.1f} s")
        measured.setdefault("keys rotate under iperf3", []).append(
            (f"{what}: {stream.name}", f"longest gap {gap:.1f} s")
        )
        assert gap < HANDSHAKE_AGAIN


def poll(twin: Twin, *hosts: str) -> None:
    for host in hosts:
        assert twin.gitwan(host, "notify")[0] == 0
    twin.converged(twin.head, hosts)


def later(twin: Twin) -> None:
    """Time passes, as between two polls; it is measured in answered pings."""
    twin.run("ams-server", f"ping -q -n -i 0.1 -c {round(LATER * 10)} {FRA}")


def moved(twin: Twin, host: str, to: str, devices: set[str]) -> None:
    """Waits until what leads to an address leaves by one of these devices."""
    eventually(lambda: set(re.findall(r"dev (\S+)", route(twin, host, to))) <= devices, 60.0, f"{host}: {devices}")


def route(twin: Twin, host: str, to: str) -> str:
    found = twin.run(host, f"ip route get {to}")
    assert "dev" in found
    return found


def rotate(twin: Twin, host: str, *words: str) -> None:
    done = cli("keys", "rotate", host, *words, "--dir", str(twin.sites))
    assert done.returncode == 0, done.stderr


def next_key(twin: Twin, host: str) -> str:
    done = cli("keys", "next", "--dir", str(twin.folder.host(host) / "keys"))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def others(twin: Twin, *hosts: str) -> list[str]:
    return [host for host in twin.hosts if host not in hosts]


def test_a_host_with_many_tunnels(unhurried: Twin, measured: dict[str, list[tuple[str, str]]]) -> None:
    twin = unhurried
    with streaming(twin, measured, "fra-gw1"):
        rotate(twin, "fra-gw1", next_key(twin, "fra-gw1"))
        twin.push("fra: a new key")
        poll(twin, "fra-gw1")
        later(twin)
        assert "b " not in route(twin, "fra-gw1", AMS), "nothing moves before the far end has the tunnels"
        poll(twin, *others(twin, "fra-gw1"))
        moved(twin, "fra-gw1", AMS, {f"wg-ams-{n}b" for n in (1, 2, 3)})
        moved(twin, "ams-gw1", FRA, {f"wg-fra-{n}b" for n in (1, 2, 3)})
        later(twin)
        rotate(twin, "fra-gw1", "--finish")
        twin.push("fra: the old key goes")
        poll(twin, *others(twin, "fra-gw1"))
        later(twin)
        poll(twin, "fra-gw1")
        later(twin)
    assert "wg-ams-1:" not in twin.run("fra-gw1", "ip -o link")


def test_a_member_of_the_backbone(unhurried: Twin, measured: dict[str, list[tuple[str, str]]]) -> None:
    """The other order: the far ends first, and at the end the host itself first."""
    twin = unhurried
    with streaming(twin, measured, "vpn-ireland"):
        rotate(twin, "vpn-ireland", next_key(twin, "vpn-ireland"))
        twin.push("ireland: a new key")
        poll(twin, *others(twin, "vpn-ireland"))
        later(twin)
        poll(twin, "vpn-ireland")
        moved(twin, "vpn-ireland", AMS, {"wg-ams-1b"})
        moved(twin, "ams-gw1", "10.50.0.1", {"wg-ireland-1b"})
        moved(twin, "vpn-singapore", "10.50.0.1", {"wg-backbone-c"})
        moved(twin, "vpn-virginia", "10.50.0.1", {"wg-backbone-c"})
        later(twin)
        rotate(twin, "vpn-ireland", "--finish")
        twin.push("ireland: the old key goes")
        # The key towards clients changes with it, and a client that says nothing finds out at its next keepalive.
        twin.run("laptop", "sh", "-c", f"ping -q -c 40 -i 0.5 {AMS} >/dev/null 2>&1 &")
        poll(twin, "vpn-ireland")
        later(twin)
        poll(twin, *others(twin, "vpn-ireland"))
        later(twin)
    keys = twin.run("vpn-ireland", "wg show all public-key")
    assert len({line.split()[1] for line in keys.splitlines() if "clients" not in line}) == 1


def test_a_preshared_key(unhurried: Twin, measured: dict[str, list[tuple[str, str]]]) -> None:
    """A session outlives the change of its preshared key: the far end has a minute and more to follow."""
    twin = unhurried
    edit(twin.sites / "fabric.yaml", lambda fabric: fabric["links"][0].update({"psk": "ams-fra"}))
    assert cli("secret", "add", "ams-fra", "--generate", "psk", "--dir", str(twin.sites)).returncode == 0
    with streaming(twin, measured, "a preshared key"):
        for again in (False, True):
            if again:
                done = cli("secret", "rotate", "ams-fra", "--generate", "--dir", str(twin.sites))
                assert done.returncode == 0, done.stderr
            twin.push("ams-fra: a preshared key")
            poll(twin, "ams-gw1")
            later(twin)
            poll(twin, *others(twin, "ams-gw1"))
            later(twin)
    for device in twin.run("ams-gw1", "ip -o link").split():
        if device.startswith("wg-fra-"):
            peer = twin.run("ams-gw1", f"wg show {device.strip(':')} peers").strip()
            twin.run("ams-gw1", f"wg set {device.strip(':')} peer {peer} remove")
    twin.converged(twin.head)
    assert not twin.reaches(("ams-server", FRA)), "and new sessions are made with it"
    assert "(none)" not in twin.run("ams-gw1", "sh", "-c", "wg show all preshared-keys | grep wg-fra-")
    assert git(twin.folder.work, "status", "--porcelain") == ""
