"""Programs that are no part of the agent: each in a session of its own, with limits, and not in the agent's group.

The group is what the kill switch lets past (docs/exits.md): a daemon that had it would lead around every exit.
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
"""Notes the process before it becomes the program, so that no crash of the agent leaves one that nobody knows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may have. None leaves core files."""

    files: int = 1024
    """Open files."""
    data: int = 256 << 20
    """Bytes of its own memory."""


def run(words: Sequence[str], limits: Limits, seconds: float, aside: Aside) -> tuple[int, str]:
    """Run a command to its end: its exit code, and what it complained of. Raises OSError, ETIMEDOUT after `seconds`.

    It may leave something in the background, which has what the command has.
    """
    return _run([*limited(limits), *words], seconds, aside)


def start(words: Sequence[str], limits: Limits, pid: Path, log: Path, seconds: float, aside: Aside) -> None:
    """Start a program in the background that does not go there itself. Raises OSError.

    Its process is written to `pid`, and what it says is added to `log`. It has not become the program yet when this
    returns, and may fail to.
    """
    behind = ["setsid", "--fork", "sh", "-c", _BEHIND, "sh", str(pid), str(log)]
    code, said = _run([*behind, *limited(limits), *words], seconds, aside)
    if code:
        raise OSError(errno.EIO, f"{words[0]} cannot be started: {said or code}")


def installed(program: str) -> bool:
    return shutil.which(program) is not None


def limited(limits: Limits) -> list[str]:
    """The words that bound a command that follows them."""
    values = {"nofile": limits.files, "data": limits.data, "core": 0}
    numbers = {"nofile": resource.RLIMIT_NOFILE, "data": resource.RLIMIT_DATA, "core": resource.RLIMIT_CORE}
    words = ["prlimit"]
    for name, value in values.items():
        most = resource.getrlimit(numbers[name])[1]  # raising that would take CAP_SYS_RESOURCE
        words.append(f"--{name}={value if most == resource.RLIM_INFINITY else min(value, most)}")
    return words


def _run(words: Sequence[str], seconds: float, aside: Aside) -> tuple[int, str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    # No pipe: what stays in the background would hold it open.
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
