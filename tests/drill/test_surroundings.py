"""Everything around the agent fails: its disk, its files, its clock, its git server. The network keeps running.

Each case runs the real agent, as a process, in a private network; the kernel's dump before and after is the same to the
byte, the reason is said, and nothing is a traceback.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.generate import key
from reconciler.cycle.engine import Engine
from reconciler.kinds import KINDS
from reconciler.process.reconciler import Reconciler
from reconciler.report.report import Acquired, Candidate
from reconciler.sources.acquire import Acquirer
from reconciler.state.inventory import Inventory
from reconciler.state.store import Store
from reconciler.system import Context, drivers
from schema.plan import HostPlan, Link, Route
from tests.namespaces import ip, private_network, run
from tests.unit.reconciler.sources.test_acquire import Scripted

pytestmark = pytest.mark.root

SITE = """\
site: home
kind: edge
hosts:
  nas:
    underlay: {interface: eth0, addresses: dhcp}
    lans: {eth1: [%s]}
"""
YEAR = 365 * 86400.0


@dataclass
class Machine:
    """A host with a state folder on a small disk of its own, and a repository it pulls from."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def work(self) -> Path:
        return self.folder / "wan"

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", self.work, *identity, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def push(self, lan: str) -> None:
        """A commit with this network behind the host."""
        (self.work / "fabric.yaml").write_text("fabric: f\nversion: 1\n")
        (self.work / "home.yaml").write_text(SITE % lan)
        (self.work / "keys").mkdir(exist_ok=True)
        (self.work / "keys" / "nas.pub").write_text(key("nas"))
        self.git("add", "-A")
        self.git("commit", "-q", "-m", lan)

    def configure(self, url: str = "", timeout: str = "20s") -> None:
        source = f"git: {url or f'file://{self.work}'}, timeout: {timeout}"
        text = f"host: nas\nsource: {{{source}}}\nstate: {self.state}\nsocket: {self.folder}/s\nkeys: {self.folder}\n"
        (self.folder / "agent.yaml").write_text(f"{text}metrics: off\n")

    def run(self) -> tuple[int, str]:
        """`gitwan agent run --once`: exit code, and all that it said."""
        command = [sys.executable, "-m", "gitwan", "agent", "run", "--once", "--json"]
        done = subprocess.run(
            [*command, "--config", str(self.folder / "agent.yaml")], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        return done.returncode, said

    def kernel(self) -> str:
        return "".join(run(f"ip -j {what}") for what in ("address", "route show table all", "rule", "nexthop"))

    def start(self) -> str:
        """The host as it is after a good commit."""
        self.configure()
        self.push("10.1.0.1/24")
        code, said = self.run()
        assert code == 0, said
        assert "10.1.0.1" in self.kernel()
        return self.kernel()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with private_network():
        found = Machine(tmp_path)
        for place in (found.state, found.work):
            place.mkdir()
        # A cable's link-local addresses come by themselves in its first second, and would be a difference.
        run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", found.state], check=True)
        found.git("init", "-q", "-b", "main")
        yield found


def conditions(said: str) -> str:
    """The conditions that are not true, or what was said instead of a status."""
    text, _, _ = said.partition("\n}\n")
    try:
        status = json.loads(f"{text}\n}}")["status"]
    except ValueError:
        return said
    bad = [c for c in status["conditions"] if c["status"] != "True"]
    return "; ".join(f"{c['type']}={c['reason']}: {c['message']}" for c in bad)


def test_a_full_disk(machine: Machine) -> None:
    before = machine.start()
    with pytest.raises(OSError, match="No space"), (machine.state / "filler").open("wb") as file:
        file.write(os.urandom(20 << 20))
    machine.push("10.2.0.1/24")
    code, said = machine.run()
    assert code == 1
    assert "space" in conditions(said).lower()
    assert machine.kernel() == before
    (machine.state / "filler").unlink()
    assert machine.run()[0] == 0
    assert "10.2.0.1" in machine.kernel()


def test_a_disk_that_became_read_only(machine: Machine) -> None:
    before = machine.start()
    machine.push("10.2.0.1/24")
    subprocess.run(["mount", "-o", "remount,ro", machine.state], check=True)
    code, said = machine.run()
    assert code == 1
    assert "read-only" in conditions(said).lower()
    assert machine.kernel() == before


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b'{"from": 7}', b"[]"], ids=repr)
@pytest.mark.parametrize("name", ["journal.json", "inventory.json", "confirmed.json", "rejected.json", "accepted.json"])
def test_a_corrupt_file(machine: Machine, name: str, content: bytes) -> None:
    before = machine.start()
    (machine.state / name).write_bytes(content)
    code, said = machine.run()
    assert code == 0 or conditions(said) or '"result": "rolled back"' in said, said
    assert machine.kernel() == before
    machine.push("10.2.0.1/24")
    machine.run()
    assert "10.2.0.1" in machine.kernel() or name in machine.run()[1]


Answer = Callable[[socket.socket], None]


@pytest.fixture
def server() -> Iterator[Callable[[Answer], str]]:
    """A git server over HTTP that answers as the test says; its address.

    A process and not a thread: a process with threads cannot leave its mount namespace.
    """
    children: list[int] = []

    def serve(answer: Answer) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        child = os.fork()
        if child == 0:
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    answer(connection)
        listener.close()
        children.append(child)
        return f"http://127.0.0.1:{port}/wan.git"

    yield serve
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


ADVERTISEMENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
    b"Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
)


def test_a_git_server_that_hangs(machine: Machine, server: Callable[[Answer], str]) -> None:
    before = machine.start()
    machine.configure(server(lambda connection: connection.recv(1 << 20) and None), timeout="2s")
    code, said = machine.run()
    assert code == 1
    assert "Fetched=Timeout" in conditions(said)
    assert machine.kernel() == before


def test_a_git_server_that_sends_half_an_answer(machine: Machine, server: Callable[[Answer], str]) -> None:
    before = machine.start()
    half = b"001e# service=git-upload-pack\n0000009fdeadbeef"
    machine.configure(server(lambda connection: connection.sendall(ADVERTISEMENT + half)))
    code, said = machine.run()
    assert code == 1
    assert "Fetched=GitFailed" in conditions(said)
    assert machine.kernel() == before


def test_half_a_pack(machine: Machine) -> None:
    """The repository itself is cut: git's own server notices in the middle of sending."""
    before = machine.start()
    machine.push("10.2.0.1/24")
    machine.git("repack", "-adq")
    pack = next((machine.work / ".git" / "objects" / "pack").glob("*.pack"))
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])
    code, said = machine.run()
    assert code == 1
    assert "Fetched=" in conditions(said)
    assert machine.kernel() == before


def test_a_server_that_sends_a_gigabyte(machine: Machine, server: Callable[[Answer], str]) -> None:
    before = machine.start()

    def pour(connection: socket.socket) -> None:
        connection.sendall(ADVERTISEMENT + b"001e# service=git-upload-pack\n0000")
        line = b"003d" + b"a" * 40 + b" refs/heads/branch-n\n"
        for _ in range((1 << 30) // (len(line) * 4096)):
            connection.sendall(line * 4096)

    machine.configure(server(pour), timeout="10s")
    code, said = machine.run()
    assert code == 1
    assert "Fetched=" in conditions(said)
    assert machine.kernel() == before
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 512 << 10


def test_a_file_of_a_gigabyte_in_the_repository(machine: Machine) -> None:
    """Zeros compress well: a commit of a megabyte can hold a file that no memory should."""
    before = machine.start()
    size = int(os.environ.get("GITWAN_HUGE", "100")) << 20
    with (machine.work / "huge.yaml").open("wb") as file:
        file.truncate(size)
    machine.push("10.2.0.1/24")
    code, said = machine.run()
    assert code == 1
    assert "Compiled=TooLarge" in conditions(said)
    assert machine.kernel() == before


def test_a_clock_that_jumps_a_year_both_ways(tmp_path: Path) -> None:
    """Conditions, repairs and confirmations go on; nothing waits for a time that lies a year ahead."""
    with private_network():
        ip("link add br0 type bridge")
        now = [1_800_000_000.0]
        store = Store(tmp_path)
        store.open()
        found = drivers(Context(lambda ref: b"", Inventory(tmp_path / "inventory.json"), tmp_path / "services"))
        kinds = {kind: found[kind] for kind in ("link", "route")}
        engine = Engine(store=store, drivers=kinds, kinds=KINDS, clock=lambda: now[0])
        source = Acquirer(host="h", store=store, source=Scripted())
        host = Reconciler(
            name="h", store=store, engine=engine, acquirer=source, clock=lambda: now[0], say=lambda *_: None
        )
        for n, jump in enumerate((0.0, YEAR, -2 * YEAR, YEAR)):
            now[0] += jump
            plan = HostPlan.of("h", [Link(name="br1", type="bridge"), Route(dst=f"10.{n}.0.0/16", dev="br1")])
            candidate = Candidate.of(f"{n:040x}", plan)
            assert host.converge(Acquired(commit=candidate.commit, candidate=candidate)).ok
            ip(f"route del 10.{n}.0.0/16 dev br1")
            assert host.converge(kinds={"route"}).operations == 1
            assert f"10.{n}.0.0/16" in run("ip route show proto 117")
            assert all(c.status == "True" for c in host.reporter.conditions.all())
