"""A running lab in the hands of a test: commands in its namespaces, commits, and what its hosts hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab.client import agent, ask, down, path_of, up
from lab.drive import CONVERGE, HANDSHAKES, compiled, refused, wait_tunnels
from lab.folder import LabFolder
from lab.repository import git
from lab.table import Cell, measure
from schema.input import LOCK
from schema.lock import lock_text

REPOSITORY = Path(__file__).parents[2]
SITES = REPOSITORY / "sites"
PATIENCE = 20.0
"""Seconds after which something that was to happen counts as not happening."""
STEP = 0.02


def eventually(check: Callable[[], object], seconds: float = PATIENCE, what: str = "") -> None:
    """Asks again and again until the answer is true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(STEP)


def soon_nothing(wrong: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Asks what is wrong again and again until nothing is; fails with the last answer."""
    end = time.monotonic() + seconds
    while found := wrong():
        assert time.monotonic() < end, f"still after {seconds:g} s: {found}"
        time.sleep(STEP)


@dataclass
class Twin:
    """The lab in a folder."""

    folder: LabFolder
    first: str
    """The commit that it started with."""

    # Its hosts

    @property
    def hosts(self) -> list[str]:
        return list(ask(self.folder, "describe")["hosts"])

    def run(self, space: str, *command: str, stdin: str = "") -> str:
        """What a command prints inside the lab; a line of words is one, too. It has to succeed."""
        code, output, errors = self.attempt(space, *command, stdin=stdin)
        assert code == 0, f"{space}: {' '.join(command)}: exit {code}: {errors or output}"
        return output

    def attempt(self, space: str, *command: str, stdin: str = "") -> tuple[int, str, str]:
        """A command inside the lab: its exit code, its output, its errors."""
        words = command[0].split() if len(command) == 1 else list(command)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            files = [given.fileno(), out.fileno(), err.fileno()]
            code = ask(self.folder, "exec", files, space=space, command=words)["code"]
            for file in (out, err):
                file.seek(0)
            return int(code), out.read().decode(), err.read().decode()

    def gitwan(self, host: str, *words: str) -> tuple[int, str]:
        """`gitwan agent ...` on a host; its exit code, and all that it says."""
        config = str(self.folder.host(host) / "agent.yaml")
        code, output, errors = self.attempt(host, sys.executable, "-m", "gitwan", "agent", *words, "--config", config)
        return code, output + errors

    def status(self, host: str) -> dict[str, Any]:
        answer = agent(self.folder, host, "status")
        assert answer is not None, f"{host}: no agent answers"
        found: dict[str, Any] = answer["status"]
        return found

    def cycle(self, host: str) -> dict[str, Any]:
        """A full cycle now, and its outcome."""
        answer = agent(self.folder, host, "cycle")
        assert answer is not None, f"{host}: no agent answers"
        return answer

    def condition(self, host: str, type_: str) -> dict[str, Any]:
        found: dict[str, Any] = next(c for c in self.status(host)["conditions"] if c["type"] == type_)
        return found

    def restart(self, host: str, number: int) -> None:
        """Ends the agent of a host, where it runs, and starts it again."""
        ask(self.folder, "restart", host=host, signal=number)

    def log(self, host: str) -> str:
        return (self.folder.host(host) / "agent.log").read_text()

    # Its network

    def measure(self) -> dict[tuple[str, str], Cell]:
        """Every pair of networks, pinged, with the denied pair of the example."""
        return measure(self.folder, refused(compiled(self.folder)))

    def reaches(self, *pairs: tuple[str, str]) -> list[tuple[str, str]]:
        """The pairs (from this space, to this address) that do not answer a ping."""
        results = ask(self.folder, "ping", pairs=[[*pair, 4] for pair in pairs])["results"]
        return [pair for pair, result in zip(pairs, results, strict=True) if result is None]

    def settle(self) -> None:
        """Waits until every host is at the pushed commit, and every tunnel has had its handshake."""
        self.converged(self.head)
        assert wait_tunnels(self.folder, HANDSHAKES, lambda text: None) is not None, "a tunnel had no handshake"

    # Its repository

    @property
    def head(self) -> str:
        return git(self.folder.work, "rev-parse", "HEAD")

    @property
    def sites(self) -> Path:
        return self.folder.work / path_of(self.folder)

    def lock(self) -> None:
        """What `gitwan lock` writes."""
        fabric = compiled(self.folder).fabric
        assert fabric is not None
        (self.sites / LOCK).write_text(lock_text(fabric.lock))

    def push(self, message: str) -> str:
        """Commits the work tree as it is, and pushes it; the commit."""
        git(self.folder.work, "add", "-A")
        git(self.folder.work, "commit", "-q", "--allow-empty", "-m", message)
        git(self.folder.work, "push", "-q", "lab", "main")
        return self.head

    def bring_back(self, commit: str) -> str:
        """A new commit with the files of an older one, pushed."""
        path = path_of(self.folder)
        git(self.folder.work, "rm", "-r", "-q", "-f", "--ignore-unmatch", "--", path)
        git(self.folder.work, "clean", "-f", "-d", "-q", "--", path)
        git(self.folder.work, "checkout", commit, "--", path)
        return self.push(f"as in {commit[:7]}")

    def converged(self, commit: str, hosts: Iterable[str] | None = None) -> None:
        """Waits until hosts, all if none are named, are at a commit with all conditions true."""
        for host in hosts or self.hosts:
            soon_nothing(partial(self._not_at, host, commit), CONVERGE)

    def _not_at(self, host: str, commit: str) -> str:
        """Why a host is not at a commit with all conditions true; nothing where it is."""
        found = (agent(self.folder, host, "status") or {}).get("status")
        if not found:
            return "no agent answers"
        bad = [f"{c['type']}: {c['message']}" for c in found["conditions"] if c["status"] != "True"]
        return (
            f"{host}: " + "; ".join(bad) if bad else ("" if found["commit"] == commit else f"at {found['commit'][:7]}")
        )


@contextmanager
def playing(sites: Path = SITES) -> Iterator[Twin]:
    """A lab with this network, by default the example, that nobody has waited for. It is gone at the end."""
    # Not pytest's own folder: the names of Unix sockets have to be short.
    folder = LabFolder(Path(tempfile.mkdtemp(prefix="gwlab-", dir="/tmp")))
    try:
        up(sites, folder, lambda text: None)
        yield Twin(folder, git(folder.work, "rev-parse", "HEAD"))
    finally:
        down(folder)
        shutil.rmtree(folder.root, ignore_errors=True)


class Flow:
    """Pings 50 times a second from one place to another for as long as it is open."""

    def __init__(self, twin: Twin, source: str, target: str) -> None:
        self.name = f"{source} to {target}"
        self._twin, self._source = twin, source
        self._output = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - closed by close
        command = ["sh", "-c", f"echo $$; exec ping -D -n -i 0.02 -W 2 {target}"]
        arguments = {"space": source, "command": command}
        with Path("/dev/null").open("r+b") as null:
            files = [null.fileno(), self._output.fileno(), self._output.fileno()]
            self._thread = threading.Thread(target=ask, args=(twin.folder, "exec", files), kwargs=arguments)
            self._thread.start()
            eventually(lambda: len(self._seen()) > 10, what=f"{self.name}: replies")
        self.sent = 0
        self.gap = 0.0
        """The longest time between two replies, in seconds."""

    def _text(self) -> str:
        return Path(self._output.name).read_text()

    def _seen(self) -> set[int]:
        return {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", self._text())}

    def close(self) -> list[int]:
        """Ends it; the numbers of the packets that were lost. The very last may still have been on its way."""
        more = max(self._seen()) + 10
        eventually(lambda: max(self._seen()) > more, what=f"{self.name}: replies to the end")
        self._twin.run(self._source, f"kill -INT {self._text().split(maxsplit=1)[0]}")
        self._thread.join(PATIENCE)
        text, seen = self._text(), self._seen()
        self._output.close()
        sent = re.search(r"(\d+) packets transmitted", text)
        assert sent is not None, text[-300:]
        self.sent = int(sent[1])
        times = [float(time) for time in re.findall(r"^\[([\d.]+)\].*icmp_seq", text, re.MULTILINE)]
        self.gap = max(later - earlier for earlier, later in pairwise(times))
        return [number for number in range(1, self.sent) if number not in seen]


@contextmanager
def unharmed(twin: Twin, *ways: tuple[str, str]) -> Iterator[None]:
    """Nothing is lost on these ways, from a space to an address, while the body runs."""
    flows = [Flow(twin, source, target) for source, target in ways]
    try:
        yield
    finally:
        lost = {flow.name: flow.close() for flow in flows}
    assert not any(lost.values()), f"lost packets: {lost}"
    print(
        ", ".join(
            f"{flow.name}: {flow.sent} packets, none lost, {flow.gap * 1000:.0f} ms apart at most" for flow in flows
        )
    )


def cli(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A `gitwan` command of its own on this machine."""
    command = [sys.executable, "-m", "gitwan", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd or REPOSITORY)


def as_json(text: str) -> Any:
    return json.loads(text or "[]")
