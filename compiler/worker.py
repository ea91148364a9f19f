"""The compiler in its own process, as the agent runs it: `python -m compiler.worker`.

Standard input: a line of JSON `{"host": NAME, "files": [[path, size, kind], …]}`, then the contents of the files,
concatenated (kind `file`; the contents of `symlink` and `submodule` are ignored). Standard output: one JSON object
`{"plan": … | null, "problems": […]}`.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import BinaryIO

from compiler.compile import compile_files
from schema.input import is_input
from schema.problem import Place, Problem


def run(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Run one compilation. Raises ValueError if the input does not have the format above."""
    request = json.loads(stdin.readline())
    files: dict[str, bytes] = {}
    special: dict[str, str] = {}
    for path, size, kind in request["files"]:
        content = stdin.read(size)
        if len(content) != size:
            raise ValueError(f"{path}: {len(content)} of {size} bytes")
        if kind != "file":
            special[path] = kind
        elif is_input(path):
            files[path] = content
    host = request["host"]
    result = compile_files(files, special)
    problems = list(result.problems)
    plan = b"null"
    if host in result.hosts:
        plan = result.plan(host).canonical()
    elif result.fabric is not None:
        known = ", ".join(result.hosts[:5]) or "none"
        problems.append(Problem("GW070", Place(""), f"no plan for the host {host!r}", f"hosts with a plan: {known}"))
    stdout.write(b'{"plan":' + plan + b',"problems":')
    stdout.write(json.dumps([problem.json() for problem in problems]).encode() + b"}")
    stdout.flush()


if __name__ == "__main__":
    gc.disable()  # one compilation, and the process ends
    run(sys.stdin.buffer, sys.stdout.buffer)
