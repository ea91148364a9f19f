"""`python -m bench [GROUP ...]`: every measure with its limit. The exit code is 1 if a limit is missed.

Groups: compiling, text, routes, processes, rest, overlays, lab. Without any group, all of them run, and
bench/out/results.json is written.
"""

from __future__ import annotations

import os
import sys
import time

from bench import compiling, lab, overlays, processes, rest, routes, text
from bench.rows import Board

GROUPS = {
    "compiling": compiling.measure,
    "text": text.measure,
    "routes": routes.measure,
    "processes": processes.measure,
    "rest": rest.measure,
    "overlays": overlays.measure,
    "lab": lab.measure,
}
PRIVATE = {"overlays", "routes", "processes", "rest", "lab"}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        print(f"no group {', '.join(unknown)}: there are {', '.join(GROUPS)}", file=sys.stderr)
        return 1
    wanted = names or list(GROUPS)
    if os.geteuid() and PRIVATE & set(wanted):
        print("the network groups make namespaces: run as root, or name compiling or text only", file=sys.stderr)
        return 1
    started = time.monotonic()
    board = Board()
    for name in wanted:
        GROUPS[name](board)
    print(f"\n{len(board.rows)} rows in {time.monotonic() - started:.0f} s", end="")
    print(f", in {board.save()}" if not names else "")
    for row in board.missed:
        print(f"missed: {row.name}: {row.value:.2f} {row.unit}", file=sys.stderr)
    return 1 if board.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
