"""Runs measures that change the network in their own namespaces, so that nothing of them is left on the machine."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
UNSHARE = ("unshare", "-nmp", "--fork", "--kill-child", "--mount-proc")


def in_private(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m MODULE ARGUMENTS` in new network, mount and process namespaces. Returns the object that it prints
    last.

    Raises RuntimeError with the end of its output if it fails.
    """
    _have_bytecode()
    command = [*UNSHARE, sys.executable, "-m", module, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return dict(json.loads(lines[-1]))


def _have_bytecode() -> None:
    """Compile our sources to bytecode, as an installer does. The programs that we compare with were installed this
    way."""
    for room in ("schema", "compiler", "reconciler"):
        compileall.compile_dir(ROOT / room, quiet=2)
    compileall.compile_file(ROOT / "gitwan.py", quiet=2)


def enter(*cables: str) -> None:
    """Called inside the namespaces: mounts an empty /run, and creates loopback and the cables. The far end of NAME is
    NAME-far."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for folder in ("/run/netns", "/run/wireguard"):
        Path(folder).mkdir()
    run("ip", "link", "set", "lo", "up")
    for name in cables:
        far = f"{name}-far"
        run("ip", "link", "add", name, "type", "veth", "peer", "name", far)
        for end in (name, far):
            run("ip", "link", "set", end, "up")


def run(*command: str) -> str:
    """The output of a command. Raises RuntimeError with its output if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout
