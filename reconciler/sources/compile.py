"""Compiles a commit in a child process with limits on time and memory.

The child reads one line of JSON, `{"host": NAME, "files": [[path, size, kind], ...]}`, then the contents of the files,
concatenated. Kind is `file`, `symlink` (the content is the target) or `submodule`. The child writes one JSON object,
`{"plan": HostPlan or null, "problems": [Problem.json(), ...]}`, and exits with code 0.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from reconciler.base.errors import Stalled, Transient
from reconciler.base.words import and_more
from schema.plan import HostPlan, take_resources

FileKind = Literal["file", "symlink", "submodule"]
PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
"""The child's environment. It gets nothing else, so no token and no path of a key."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of a commit."""

    data: bytes
    kind: FileKind = "file"


Tree = Mapping[str, Blob]


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """The limits of a compilation: wall-clock seconds, CPU seconds, bytes of address space."""

    seconds: float = 60.0
    cpu_seconds: int = 60
    memory: int = 2 << 30


LIMITS = CompileLimits()


class CompileOutput(BaseModel):
    """The child's output."""

    plan: HostPlan | None
    problems: list[dict[str, Any]] = []


def compile_tree(command: Sequence[str], host: str, tree: Tree, limits: CompileLimits = LIMITS) -> tuple[HostPlan, str]:
    """One host's plan, and a note on its warnings. Raises Stalled or Transient (Compiled)."""
    output = _run(command, _request(host, tree), limits)
    try:
        frame, resources = take_resources(output)
        answer = CompileOutput.model_validate_json(frame)
    except ValidationError as error:
        raise Stalled("Compiled", "CompilerFailed", f"the compiler's answer is not a plan: {_first(error)}") from None
    if answer.plan is None:
        raise Stalled("Compiled", "Problems", summarise(answer.problems) or f"there is no plan for {host}")
    return answer.plan.having(resources), summarise(answer.problems)


def summarise(problems: Sequence[Mapping[str, Any]]) -> str:
    """The first problem in one line, errors before warnings, and the number of others."""
    if not problems:
        return ""
    first = min(problems, key=lambda problem: problem.get("severity") != "error")
    place = str(first.get("path", ""))
    if first.get("line"):
        place += f":{first['line']}:{first.get('column', 0)}"
    more = and_more(problems)
    return f"{place}: {first.get('severity', 'error')}[{first.get('code', '?')}]: {first.get('message', '')}{more}"


def _request(host: str, tree: Tree) -> bytes:
    files = sorted(tree.items())
    header = {"host": host, "files": [[path, len(blob.data), blob.kind] for path, blob in files]}
    return b"".join([json.dumps(header).encode(), b"\n", *(blob.data for _, blob in files)])


def _run(command: Sequence[str], request: bytes, limits: CompileLimits) -> bytes:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise Transient("Compiled", "CompilerMissing", f"cannot start the compiler: {error}") from error
    try:
        # The child reads its input first, so the limits apply before it can exceed them.
        resource.prlimit(child.pid, resource.RLIMIT_AS, (limits.memory, limits.memory))
        resource.prlimit(child.pid, resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds))
    except (OSError, ValueError):
        pass  # the child has already ended; its output is read below
    try:
        output, errors = child.communicate(request, timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        raise Stalled("Compiled", "CompilerTimeout", f"compiling took more than {limits.seconds:g} s") from None
    finally:
        _end(child)
    if child.returncode:
        # Killed for lack of memory or during an upgrade: this is not the commit's fault, and another try may succeed.
        raise Transient("Compiled", "CompilerFailed", _last_words(child.returncode, errors))
    return output


def _end(child: subprocess.Popen[bytes]) -> None:
    """Make sure that the child and its descendants are gone."""
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.communicate()


def _last_words(code: int, errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the compiler ended with {how}" + (f": {lines[-1][:300]}" if lines else "")


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
