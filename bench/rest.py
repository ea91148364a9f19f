"""The idle agent: memory and processor use of a real agent with the example's plan while nothing happens."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.private import ROOT, enter, in_private, run
from bench.rows import OUT, Board, Row

HOST = "fra-gw1"
CABLES = ("eno1", "eno4")
SETTLE = 15.0
WATCH = 40.0
"""Seconds. This is longer than the poll interval with its jitter, so it contains a poll."""
AGENT = """\
host: {host}
source: {{git: "file://{repository}"}}
state: {state}
socket: {state}/agent.sock
keys: {state}/keys
"""


def measure(board: Board) -> None:
    OUT.mkdir(exist_ok=True)
    with board.working("the agent at rest"), tempfile.TemporaryDirectory(dir=OUT) as folder:
        found = in_private("bench.rest", folder)
    plan = f"{found['resources']} resources, metrics on, its parent counted"
    board.add(
        Row("the agent at rest, proportional set size", found["pss"], "MB", 70.0,
            note=f"{plan}; peak {found['peak']:.0f} MB resident")
    )  # fmt: skip
    board.add(
        Row("the agent at rest, processor", found["cpu"], "% of a core", 1.0,
            note=f"over {WATCH:.0f} s with a poll, git and iptables-save included: {found['children']:.2f} %")
    )  # fmt: skip


def _inside(folder: Path) -> dict[str, float]:
    enter(*CABLES)
    config = _prepare(folder)
    command = [f"{Path(sys.executable).parent}/gitwan", "agent", "run", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        resources = _wait(agent, folder)
        time.sleep(SETTLE)
        pair = [agent.pid, *_children(agent.pid)]
        before, started = _cpu(pair), time.monotonic()
        time.sleep(WATCH)
        own, children = (b - a for a, b in zip(before, _cpu(pair), strict=True))
        elapsed = time.monotonic() - started
        return {
            "pss": sum(_proportional(pid) for pid in pair), "peak": _memory(pair[-1])["VmHWM"],
            "cpu": (own + children) / elapsed * 100,
            "children": children / elapsed * 100, "resources": resources,
        }  # fmt: skip
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(20)


def _prepare(folder: Path) -> Path:
    """Create the example repository with our own key for the host, and the agent's settings."""
    from reconciler.system.wg_key import generate_private, public_key

    repository, state = folder / "repository", folder / "state"
    shutil.copytree(ROOT / "sites", repository)
    private = generate_private()
    (repository / "keys" / f"{HOST}.pub").write_text(public_key(private) + "\n")
    (state / "keys").mkdir(parents=True)
    key = state / "keys" / "private.key"
    key.touch(0o600)
    key.write_text(base64.b64encode(private).decode() + "\n")
    git = ("git", "-C", str(repository), "-c", "user.name=bench", "-c", "user.email=bench@localhost")
    run(*git, "init", "-q", "-b", "main")
    run(*git, "add", ".")
    run(*git, "-c", "commit.gpgsign=false", "commit", "-q", "-m", "bench: the example")
    config = folder / "agent.yaml"
    config.write_text(AGENT.format(host=HOST, repository=repository, state=state))
    return config


def _wait(agent: subprocess.Popen[bytes], folder: Path) -> int:
    """Wait until the plan is confirmed. Returns its number of resources."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and agent.poll() is None:
        confirmed = folder / "state" / "confirmed.json"
        if confirmed.exists():
            digest = json.loads(confirmed.read_text())["digest"]
            return len(json.loads((folder / "state" / "plans" / f"{digest}.json").read_text())["resources"])
        time.sleep(0.2)
    raise RuntimeError(f"the agent did not confirm its plan: {(folder / 'log').read_text()[-1500:]}")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu(pids: Sequence[int]) -> tuple[float, float]:
    """Seconds of processor time: of the processes themselves, and of the children that they waited for."""
    own = waited = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system, child_user, child_system = (int(field) for field in fields[11:15])
        own, waited = own + user + system, waited + child_user + child_system
    ticks = os.sysconf("SC_CLK_TCK")
    return own / ticks, waited / ticks


def _proportional(pid: int) -> float:
    """Proportional set size of a process in millions of bytes: shared pages are divided by the number of their
    users."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(words[1]) * 1024 / 1e6 for words in lines if words[0] == "Pss:")


def _memory(pid: int) -> dict[str, float]:
    """The memory values of /proc/PID/status, in millions of bytes."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 / 1e6 for words in lines if words[0].startswith("Vm")}


if __name__ == "__main__":
    print(json.dumps(_inside(Path(sys.argv[1]))))
