"""Measures that touch the network, in namespaces of their own: nothing of them is left on the machine."""

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
    """Run `python -m MODULE ARGUMENTS` in fresh network, mount and process namespaces; the object that it prints last.

    Raises RuntimeError with its last words.
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
    """Compile our sources, as an installer does: what we are compared with was installed by one."""
    for room in ("schema", "compiler", "reconciler"):
        compileall.compile_dir(ROOT / room, quiet=2)
    compileall.compile_file(ROOT / "gitwan.py", quiet=2)


def enter(*cables: str) -> None:
    """Called inside: an empty /run, loopback, and one cable for each name, its far end named NAME-far."""
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
    """What a command prints. Raises RuntimeError with its words where it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout
