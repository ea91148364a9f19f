"""Starts, queries and ends a lab from outside its namespaces."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.folder import LabError, LabFolder
from reconciler.base.control import Unreachable, call

NAMESPACES = ("unshare", "-nmp", "--fork", "--kill-child", "--mount-proc")
START = 120.0
END = 10.0
"""The time in seconds for a lab to end."""
_started: dict[int, subprocess.Popen[bytes]] = {}
"""PID -> the process that holds a lab which this process started. It must be waited for when the lab ends."""


def ask(folder: LabFolder, do: str, files: Sequence[int] = (), **arguments: object) -> dict[str, Any]:
    """Send one request to the running lab. Raises LabError if there is no lab, or if it reports an error."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(folder.socket))
            socket.send_fds(connection, [json.dumps({"do": do, **arguments}).encode()], list(files))
            with connection.makefile("rb") as answers:
                line = answers.readline()
    except OSError:
        raise LabError(f"no lab runs in {folder.root}: `gitwan lab up` starts one") from None
    answer: dict[str, Any] = json.loads(line) if line else {"error": "the lab ended"}
    if "error" in answer:
        raise LabError(answer["error"])
    return answer


def running(folder: LabFolder) -> bool:
    try:
        ask(folder, "describe")
    except LabError:
        return False
    return True


def up(sites: Path, folder: LabFolder, say: Callable[[str], None]) -> None:
    """Start a lab for the network in `sites`. Raises LabError, or Problems if the network does not compile."""
    from lab.repository import make

    _check(folder)
    if running(folder):
        raise LabError(f"a lab runs in {folder.root}: `gitwan lab down` ends it, and removes what you edited there")
    down(folder)
    for place in (folder.root, folder.logs):
        place.mkdir(parents=True, exist_ok=True)
    folder.settings.write_text("{}")  # from here on the folder is known to be a lab's
    say("cloning the repository and making keys")
    _, path = make(sites, folder)
    folder.settings.write_text(json.dumps({"path": path}))
    command = [*NAMESPACES, sys.executable, "-m", "lab.server", str(folder.root), str(folder.work / path)]
    with folder.log.open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _started[process.pid] = process
    folder.pid.write_text(str(process.pid))
    with folder.log.open() as lines:
        _follow(process, lines, say)


def _follow(process: subprocess.Popen[bytes], lines: Any, say: Callable[[str], None]) -> None:
    """Print the log of the lab until the lab is ready."""
    end, rest = time.monotonic() + START, ""
    while time.monotonic() < end:
        # Waiting for a growing file would need another library, so the file is polled.
        if not (text := lines.readline()):
            if process.poll() is not None:
                raise LabError(f"the lab ended while it started: {rest.strip()[-400:]}")
            time.sleep(0.05)
            continue
        rest += text
        if text.startswith("lab: ready"):
            return
        if text.startswith("lab: error: "):
            raise LabError(text.removeprefix("lab: error: ").strip())
        if text.startswith("lab: "):
            say(text.removeprefix("lab: ").strip())
    raise LabError(f"the lab was not ready after {START:.0f} s")


def _check(folder: LabFolder) -> None:
    folder.check()
    _only_root()
    missing = [
        tool
        for tool in ("unshare", "nsenter", "ip", "git", "git-shell", "wg", "iptables", "ping")
        if not shutil.which(tool)
    ]
    if not (Path("/usr/sbin/sshd").exists()):
        missing.append("sshd")
    if missing:
        raise LabError(f"missing programs: {', '.join(missing)}; `make setup` installs them")
    if folder.root.exists() and not folder.settings.exists() and any(folder.root.iterdir()):
        raise LabError(f"{folder.root} holds something else: choose another folder with --lab")


def _only_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root for its namespaces: run it with sudo")


def down(folder: LabFolder) -> bool:
    """End a lab and remove its folder. Returns whether there was anything to remove."""
    if not folder.settings.exists():
        return False
    _only_root()
    with suppress(OSError, ValueError):
        pid = int(folder.pid.read_text())
        # The PID may be another process's by now, so only a process that holds this lab is ended.
        if pid in _started or str(folder.root) in Path(f"/proc/{pid}/cmdline").read_text():
            _end(pid)
        if process := _started.pop(pid, None):
            process.wait()
    shutil.rmtree(folder.root)
    return True


def _end(pid: int) -> None:
    """Kill the process that holds a lab, and wait until all its processes are gone. The first process of a PID
    namespace ends last."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    files = [os.pidfd_open(one) for one in (pid, *children)]
    try:
        os.kill(pid, signal.SIGKILL)
        for file in files:
            select.select([file], [], [], END)
    finally:
        for file in files:
            os.close(file)


def path_of(folder: LabFolder) -> str:
    """The path of the network's files in the lab's repository."""
    found: dict[str, str] = json.loads(folder.settings.read_text())
    return found["path"]


def agent(folder: LabFolder, host: str, command: str, timeout: float = 60.0) -> dict[str, Any] | None:
    """The answer of a host's agent; None if it does not answer."""
    try:
        return call(str(folder.agent_socket(host)), command, timeout=timeout)
    except Unreachable:
        return None
