"""Starts programs besides the agent: each in its own session, with limits, and not in the agent's group.

The kill switch lets this group pass (docs/exits.md): a daemon in the group would bypass every exit.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.system import agent_group
from reconciler.system.aside import Aside

_BEHIND = 'echo $$ >"$1" && exec 2>>"$2" && shift 2 && exec "$@" >&2'
"""Stores the process id before the process becomes the program, so that a crash of the agent loses no process."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a program. None writes core files."""

    files: int = 1024
    """Maximum open files."""
    data: int = 256 << 20
    """Maximum bytes of its own memory."""


def run(words: Sequence[str], limits: Limits, seconds: float, aside: Aside) -> tuple[int, str]:
    """Run a command to its end. Returns its exit code and error text. Raises OSError, ETIMEDOUT after `seconds`.

    Processes that it leaves in the background keep its session, limits and groups.
    """
    return _run([*limited(limits), *words], seconds, aside)


def start(words: Sequence[str], limits: Limits, pid: Path, log: Path, seconds: float, aside: Aside) -> None:
    """Start a foreground program in the background. Raises OSError.

    Its process id is written to `pid`, and its output is appended to `log`. On return, the process may not have become
    the program yet, and may still fail to.
    """
    behind = ["setsid", "--fork", "sh", "-c", _BEHIND, "sh", str(pid), str(log)]
    code, said = _run([*behind, *limited(limits), *words], seconds, aside)
    if code:
        raise OSError(errno.EIO, f"{words[0]} cannot be started: {said or code}")


def installed(program: str) -> bool:
    return shutil.which(program) is not None


def limited(limits: Limits) -> list[str]:
    """The words to put before a command to limit it."""
    values = {"nofile": limits.files, "data": limits.data, "core": 0}
    numbers = {"nofile": resource.RLIMIT_NOFILE, "data": resource.RLIMIT_DATA, "core": resource.RLIMIT_CORE}
    words = ["prlimit"]
    for name, value in values.items():
        most = resource.getrlimit(numbers[name])[1]  # a higher limit would need CAP_SYS_RESOURCE
        words.append(f"--{name}={value if most == resource.RLIM_INFINITY else min(value, most)}")
    return words


def _run(words: Sequence[str], seconds: float, aside: Aside) -> tuple[int, str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    # Not a pipe: background processes would keep it open.
    with tempfile.TemporaryFile() as errors:
        try:
            with aside():
                done = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd="/",
                    env=environment,
                    extra_groups=agent_group.others(),
                    start_new_session=True,
                    timeout=seconds,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise OSError(errno.ETIMEDOUT, f"{' '.join(words)} does not end") from None
        except PermissionError:
            text = "a service must not be in the agent's group, and leaving that takes CAP_SETGID"
            raise OSError(errno.EPERM, text) from None
        errors.seek(0)
        return done.returncode, errors.read().decode(errors="replace").strip()
