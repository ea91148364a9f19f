"""The example network in the lab: the time until every host has applied a push, and until a deleted route is back.

The floor of a push is the work that every host must do without an agent: all hosts fetch the same commit from the same
server at once, and each runs the compiler once. The floor of a route is a shell script with `ip monitor`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.private import ROOT
from bench.rows import Board, Row
from bench.timing import Times, in_turns, milliseconds, timed
from compiler.shell.inputs import read_folder
from lab.blueprint import GIT_ADDRESS
from lab.client import ask, down, path_of, up
from lab.drive import CONVERGE, HANDSHAKES, change, compiled, wait, wait_tunnels
from lab.folder import LabFolder
from lab.repository import git
from schema.input import LOCK
from schema.lock import lock_text

TURNS = 6
"""The number of pushes. Every second push removes what the one before it added."""
DELETIONS = 5
"""The number of deletions. An agent leaves an object alone for a while if it is deleted more often than this in a
minute."""
HOST, ROUTE, OTHER = "ams-gw1", "192.168.10.0/24", "198.18.99.0/24"
AWAY = """\
ip route del "$0"
while [ -z "$(ip route show "$0")" ]; do :; done
"""
BACK = """\
ip monitor route | while read -r line; do
    case $line in "Deleted $0 "*) ip route add "$0" dev lo ;; esac
done &
until [ -n "$(ip route show "$0")" ]; do
    ip route add "$0" dev lo
    ip route del "$0"
done
"""
"""Ends when the monitor listens. The monitor itself runs until the lab ends."""
FLOOR = """\
set -e
git --git-dir="$1" fetch --quiet "$2" +refs/heads/main:refs/heads/main
cd "$3"
exec "$4" -m compiler.worker <"$5" >"$1/answer"
"""


def measure(board: Board) -> None:
    # The folder is not below our own, because paths of Unix sockets must be short.
    folder = LabFolder(Path(tempfile.mkdtemp(prefix="gwlab-", dir="/tmp")))
    try:
        with board.working("the example network comes up"):
            up(ROOT / "sites", folder, lambda text: None)
            _steady(folder)
        with board.working("every host follows pushes"):
            times = _pushes(folder)
        board.add(_row("from a push until all hosts have converged", times, "x git fetch and compiler", 4.0))
        with board.working("a route comes back"):
            times = _drift(folder)
        board.add(_row("from a route's deletion until it is back", times, "x `ip monitor` and a shell", 10.0))
    finally:
        down(folder)
        shutil.rmtree(folder.root, ignore_errors=True)


def _row(name: str, times: Times, unit: str, limit: float) -> Row:
    """Compares each of our times with the floor that was measured just after it."""
    value = median(ours / floor for ours, floor in zip(times["ours"], times["floor"], strict=True))
    return Row(name, value, unit, limit, note=f"{milliseconds(times, 'ours')}; {milliseconds(times, 'floor')}")


def _pushes(folder: LabFolder) -> Times:
    first = git(folder.work, "rev-parse", "HEAD")
    change(folder, compiled(folder))
    fabric = compiled(folder).fabric
    assert fabric is not None
    (folder.work / path_of(folder) / LOCK).write_text(lock_text(fabric.lock))
    git(folder.work, "commit", "-q", "-a", "-m", "bench: a subnet and a tunnel more")
    second = git(folder.work, "rev-parse", "HEAD")
    hosts = list(ask(folder, "describe")["hosts"])
    times: Times = {"ours": [], "floor": []}
    for turn in range(TURNS):
        if turn:
            git(folder.work, "checkout", first if turn % 2 else second, "--", ".")
            git(folder.work, "commit", "-q", "-m", f"bench: as before, turn {turn}")
        floor = Floor.of(folder, hosts)
        times["ours"].append(timed(partial(_push, folder)))
        _steady(folder)
        floor.take_commit()
        times["floor"].append(timed(floor.run))
        floor.check()
    return times


def _push(folder: LabFolder) -> None:
    git(folder.work, "push", "-q", "lab", "main")
    if wait(folder, git(folder.work, "rev-parse", "HEAD"), CONVERGE) is None:
        raise RuntimeError(f"not all hosts converged within {CONVERGE:.0f} s of a push")


def _steady(folder: LabFolder) -> None:
    """Wait until there is nothing left to do."""
    for _ in range(2):  # the first answers of a tunnel are events for the agents at its ends
        if wait(folder, git(folder.work, "rev-parse", "HEAD"), CONVERGE) is None:
            raise RuntimeError(f"not all hosts converged within {CONVERGE:.0f} s")
        if wait_tunnels(folder, HANDSHAKES, lambda text: None) is None:
            raise RuntimeError(f"not all tunnels were up within {HANDSHAKES:.0f} s")


def _drift(folder: LabFolder) -> Times:
    def run(script: str, route: str) -> None:
        if code := _inside(folder, HOST, "sh", "-c", script, route):
            raise RuntimeError(f"{script}: exit {code}")

    run(BACK, OTHER)
    return in_turns({"ours": partial(run, AWAY, ROUTE), "floor": partial(run, AWAY, OTHER)}, DELETIONS)


def _inside(folder: LabFolder, space: str, *command: str) -> int:
    with Path("/dev/null").open("r+b") as null:
        return int(ask(folder, "exec", [null.fileno()] * 3, space=space, command=list(command))["code"])


@dataclass(frozen=True, slots=True)
class Floor:
    """The floor: every host's fetch and compilation, without an agent."""

    folder: LabFolder
    mirrors: Mapping[str, Path]
    """Host -> a bare repository that does not have the next commit yet."""

    @classmethod
    def of(cls, folder: LabFolder, hosts: list[str]) -> Floor:
        """Take copies of the repository before a push."""
        mirrors = {host: folder.root / "floor" / host for host in hosts}
        for mirror in mirrors.values():
            shutil.rmtree(mirror, ignore_errors=True)
            git(folder.root, "clone", "-q", "--bare", "--no-local", str(folder.bare), str(mirror))
        return cls(folder, mirrors)

    def take_commit(self) -> None:
        """Write the input of each host's compiler: the files of the pushed commit."""
        files = sorted(read_folder(self.folder.work / path_of(self.folder)).files.items())
        listed = [[path, len(data), "file"] for path, data in files]
        for host, mirror in self.mirrors.items():
            header = json.dumps({"host": host, "files": listed}).encode()
            (mirror / "request").write_bytes(b"\n".join([header, b"".join(data for _, data in files)]))

    def run(self) -> None:
        with ThreadPoolExecutor(len(self.mirrors)) as threads:
            codes = list(threads.map(self._run, self.mirrors))
        if any(codes):
            raise RuntimeError(f"git fetch and compiler ended with {codes}")

    def check(self) -> None:
        """Raises RuntimeError if a compiler produced no plan."""
        answers = {host: json.loads((mirror / "answer").read_bytes()) for host, mirror in self.mirrors.items()}
        if without := [host for host, answer in answers.items() if not answer["plan"]]:
            raise RuntimeError(f"no plan for {', '.join(without)}: {answers[without[0]]['problems']}")

    def _run(self, host: str) -> int:
        mirror, server = self.mirrors[host], self.folder.git
        ssh = f"ssh -F none -i {server}/deploy_key -o UserKnownHostsFile={server}/known_hosts"
        url = f"ssh://root@{GIT_ADDRESS}{self.folder.bare}"
        words = [str(mirror), url, str(ROOT), sys.executable, str(mirror / "request")]
        return _inside(self.folder, host, "env", f"GIT_SSH_COMMAND={ssh}", "sh", "-c", FLOOR, "sh", *words)
