"""The client's side of the agent's Unix socket: one line of JSON in each direction. Only the standard library.

`python -m reconciler.base.control notify SOCKET...` is for git hooks: it starts in a few milliseconds.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from typing import Any

MAX_LINE = 64 << 20
Reply = dict[str, Any]
"""The reply to a command. It has the key `ok`."""


class Unreachable(Exception):  # noqa: N818 - a state of affairs
    """No agent answers at a socket."""


def call(path: str, command: str, timeout: float = 120.0, **arguments: object) -> Reply:
    """Send a command and return the reply, an object with `ok`. `timeout` is in seconds. Raises Unreachable."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline(MAX_LINE)
    except OSError as error:
        raise Unreachable(f"no agent answers at {path}: {error.strerror or error}") from None
    try:
        answer = json.loads(line)
    except ValueError:
        raise Unreachable(f"the agent at {path} ended before it answered") from None
    if not isinstance(answer, dict):
        raise Unreachable(f"the agent at {path} gave no answer")
    return answer


def notify(paths: Sequence[str]) -> list[str]:
    """Tell agents to fetch. Returns one error text per agent that was not reached."""
    failed = []
    for path in paths:
        try:
            call(path, "notify", timeout=5.0)
        except Unreachable as error:
            failed.append(str(error))
    return failed


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2 or arguments[0] != "notify":
        sys.stderr.write("usage: python -m reconciler.base.control notify SOCKET...\n")
        return 1
    failed = notify(arguments[1:])
    for text in failed:
        sys.stderr.write(f"error: {text}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
