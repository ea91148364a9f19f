"""The whole network on one machine: it converges, it follows a push, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.blueprint import GIT_ADDRESS
from lab.client import START, ask, down, running, up
from lab.drive import change, compiled
from lab.folder import LabFolder
from lab.outside import look
from tests.lab.twin import PATIENCE, REPOSITORY, SITES, Twin, cli, eventually
from tests.lab.vpn import carried, gate

pytestmark = [pytest.mark.lab, pytest.mark.root]
HOME = ("nas", "home-pc", ["uk/london401"])
"""Of seven gateways the nearest that `sites/home.yaml` does not ignore."""
Measured = dict[str, list[tuple[str, str]]]


def test_every_host_stands_at_the_pushed_commit(twin: Twin) -> None:
    for host in twin.hosts:
        status = twin.status(host)
        assert status["commit"] == twin.head
        more = {"ams-gw1": ["Tunnels"], "fra-gw1": ["Tunnels"], "nas": ["Exits"]}  # several tunnels; VPN gateways
        known = ["Fetched", "Compiled", "Applied", "Confirmed", *more.get(host, [])]
        assert [c["type"] for c in status["conditions"]] == known
        assert {c["status"] for c in status["conditions"]} == {"True"}
        assert "url" not in status and "ssh://" in (twin.folder.host(host) / "agent.yaml").read_text()


def test_every_pair_of_networks_speaks_as_policy_wants(twin: Twin) -> None:
    cells = twin.measure()
    networks = {"ams", "fra", "home", "ireland", "virginia", "singapore", "laptop", "callserver-sg-1"}
    assert cells.keys() == {(a, b) for a in networks for b in networks if a != b}
    assert {name: cell.text for name, cell in cells.items() if not cell.ok} == {}
    assert all(cell.times.keys() == {"4", "6"} for cell in cells.values())
    assert [name for name, cell in cells.items() if cell.denied] == [("callserver-sg-1", "home")]


def test_a_server_outside_sees_the_gateway_of_the_homes_exit(twin: Twin) -> None:
    fabric = compiled(twin.folder).fabric
    assert fabric is not None
    eventually(lambda: carried(twin), what="connected")
    (seen,) = look(twin.folder, fabric)
    assert (seen.host, seen.taker, [gateway["gateway"] for gateway in seen.gateways]) == HOME
    assert seen.ok, seen.address


def test_a_gateway_of_an_exit_gets_nothing_into_our_tunnels(twin: Twin) -> None:
    """Not even one that says that it is one of us."""
    eventually(lambda: carried(twin), what="connected")
    gateway = gate(HOME[2][0])
    (peer,) = twin.run(gateway.space, f"wg show {gateway.tunnel} peers").split()
    known = twin.run(gateway.space, f"wg show {gateway.tunnel} allowed-ips").split()[1]

    def dropped() -> int:
        """Packets, of either order in which the chains may stand."""
        chains = [twin.run("nas", f"iptables -nvxL {chain}") for chain in ("GITWAN-FORWARD", "GITWAN-EXIT-FORWARD")]
        return sum(int(line.split()[0]) for text in chains for line in text.splitlines() if " DROP " in line)

    before = dropped()
    twin.run(gateway.space, f"wg set {gateway.tunnel} peer {peer} allowed-ips 0.0.0.0/0")
    twin.run(gateway.space, f"ip route add 10.10.0.0/16 dev {gateway.tunnel}")
    assert twin.attempt(gateway.space, "ping -c 3 -i 0.1 -W 1 10.10.0.100")[0] != 0
    assert dropped() - before == 3
    twin.run(gateway.space, "ip route del 10.10.0.0/16")
    twin.run(gateway.space, f"wg set {gateway.tunnel} peer {peer} allowed-ips {known}")


def test_the_lab_says_what_it_does_otherwise(twin: Twin) -> None:
    assert any("ams-gw1: the bond bond0 of 3 ports" in note for note in ask(twin.folder, "describe")["notes"])


def test_the_git_server_serves_the_repository_and_no_shell_with_the_users_start_up_files(twin: Twin) -> None:
    git = twin.folder.git
    options = f"-F none -i {git}/deploy_key -o UserKnownHostsFile={git}/known_hosts"
    code, _, said = twin.attempt("nas", f"ssh {options} root@{GIT_ADDRESS} env")
    assert code != 0 and "unrecognized command 'env'" in said


def test_a_second_cycle_does_nothing_and_says_so(twin: Twin) -> None:
    for host in twin.hosts:
        answer = twin.cycle(host)
        assert answer["report"]["operations"] == 0
        assert answer["summary"].startswith("0 operations")
        code, said = twin.gitwan(host, "cycle")
        assert (code, said) == (0, f"{host}: 0 operations: nothing to change\n")


def test_a_pushed_subnet_and_tunnel_reach_every_host(twin: Twin, measured: Measured) -> None:
    before = len(_tunnels(twin, "ams-gw1"))
    edit = change(twin.folder, compiled(twin.folder))
    twin.lock()
    started = time.monotonic()
    twin.converged(twin.push("add a subnet and a tunnel"))
    seconds = time.monotonic() - started
    measured.setdefault("from a push to the last host", []).append((edit.text, f"{seconds:.2f} s"))
    assert len(_tunnels(twin, "ams-gw1")) == before + 1
    ask(twin.folder, "clients")
    places = [e["space"] for e in ask(twin.folder, "describe")["endpoints"] if e["space"] != "callserver-sg-1"]
    assert twin.reaches(*((place, address) for place in places for address in edit.addresses.values())) == []
    assert all(twin.cycle(host)["report"]["operations"] == 0 for host in twin.hosts)


def _tunnels(twin: Twin, host: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = twin.status(host)["tunnels"]
    return rows


# What is left behind

WATCHED = (Path("/etc"), Path("/run"), Path("/var"), Path("/dev/shm"), Path.home())
"""Where a lab could leave something beside its folder; a home's caches may be anybody's."""
DEEP = 3
"""Folders below a home, which is too large to be searched as a whole."""


def _files(folder: Path) -> set[str]:
    found: set[str] = set()
    for watched in WATCHED:
        for root, dirs, files in os.walk(watched):
            found |= {str(Path(root, name)) for name in dirs + files}
            too_deep = watched == Path.home() and len(Path(root).relative_to(watched).parts) >= DEEP - 1
            dirs[:] = [] if too_deep else [name for name in dirs if name != ".cache"]
    return found | {str(path) for path in Path("/tmp").iterdir() if folder.name in path.name and path != folder}


def _interfaces() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _mounts(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder.name in line]


@dataclass(frozen=True)
class Process:
    """A process, also where its number is given to another one."""

    pid: int
    started: str
    name: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """None where there is none, or only what is left of it for its parent."""
        try:
            _, name, words = re.split(r"[()]", Path(f"/proc/{pid}/stat").read_text(), maxsplit=2)
        except OSError:
            return None
        fields = words.split()
        return None if fields[0] == "Z" else cls(pid, fields[19], name)


def _processes_of(folder: LabFolder) -> set[Process]:
    """All in the lab's PID namespace, and the one that holds it."""
    holder = int(folder.pid.read_text())
    child = int(Path(f"/proc/{holder}/task/{holder}/children").read_text())
    space = Path(f"/proc/{child}/ns/pid").readlink()
    found = {Process.of(holder)}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # one that ended meanwhile
            if (path / "ns/pid").readlink() == space:
                found.add(Process.of(int(path.name)))
    return {process for process in found if process}


def _naming(folder: Path) -> list[str]:
    """The command lines on this machine that name the lab's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder.name in text:
            found.append(text)
    return found


@pytest.fixture
def traces(short_folder: Path) -> Iterator[tuple[LabFolder, Callable[[], None]]]:
    """A lab that was just started, and a check that nothing of it is left outside its folder."""
    folder = LabFolder(short_folder)
    files, interfaces, namespaces = _files(folder.root), _interfaces(), _namespaces()
    processes: set[Process] = set()

    def check() -> None:
        eventually(lambda: not {Process.of(p.pid) for p in processes} & processes, what="processes end")
        assert _naming(folder.root) == []
        assert _namespaces() == namespaces
        assert _interfaces() == interfaces
        assert _mounts(folder.root) == []
        assert sorted(_files(folder.root) - files) == []

    try:
        up(SITES, folder, lambda text: None)
        eventually(lambda: {p.name for p in _processes_of(folder)} >= {"wireguard-go", "sshd"})
        processes |= _processes_of(folder)
        yield folder, check
    finally:
        down(folder)


def _namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def test_ending_the_lab_leaves_nothing(traces: tuple[LabFolder, Callable[[], None]]) -> None:
    folder, check = traces
    done = cli("lab", "down", "--lab", str(folder.root))
    assert (done.returncode, done.stdout) == (0, "lab: gone\n")
    assert not folder.root.exists()
    check()
    assert cli("lab", "down", "--lab", str(folder.root)).stdout == "lab: there was none\n"


def test_killing_the_process_that_holds_the_lab_leaves_nothing_outside_its_folder(
    traces: tuple[LabFolder, Callable[[], None]],
) -> None:
    folder, check = traces
    os.kill(int(folder.pid.read_text()), signal.SIGKILL)
    check()
    assert "no lab runs in" in cli("lab", "status", "--lab", str(folder.root)).stderr


def test_killing_the_first_process_of_the_lab_leaves_nothing_outside_its_folder(
    traces: tuple[LabFolder, Callable[[], None]],
) -> None:
    folder, check = traces
    holder = folder.pid.read_text()
    os.kill(int(Path(f"/proc/{holder}/task/{holder}/children").read_text()), signal.SIGKILL)
    check()
    up(SITES, folder, lambda text: None)  # what is left in the folder is in nobody's way
    assert ask(folder, "describe")["dead"] == []


def test_a_demonstration_in_the_background_that_is_told_to_end_takes_its_lab_along(short_folder: Path) -> None:
    """SIGINT is ignored there, so SIGTERM is all that can end it."""
    folder = LabFolder(short_folder)
    words = [sys.executable, "-m", "gitwan", "lab", "test", str(SITES), "--lab", str(folder.root)]
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as demonstration:
        try:
            eventually(lambda: running(folder), START, "a lab")
            processes = _processes_of(folder)
            demonstration.terminate()
            assert demonstration.wait(PATIENCE) == 128 + signal.SIGTERM
        finally:
            demonstration.kill()
            down(folder)
    assert processes and not {Process.of(p.pid) for p in processes} & processes
    assert not folder.root.exists()


def test_a_network_that_does_not_compile_is_said_to_be_so_each_time(short_folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = cli("lab", "up", str(tmp_path), "--lab", str(short_folder))
        assert done.returncode == 1
        assert "error[GW014]" in done.stdout + done.stderr
    assert cli("lab", "down", "--lab", str(short_folder)).stdout == "lab: gone\n"
