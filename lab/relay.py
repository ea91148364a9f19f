"""Distance: packets between two TUN devices, each way later, or never. `python -m lab.relay FILE` runs all lines.

In the place of netem, which not every kernel has. The file is JSON: `socket`, where lines are changed while they run,
and `lines`, each with a name, its two ends (namespace and device) and what `Line` has.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from lab.netns import within

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
"""linux/if_tun.h"""
LARGEST = 65536
AT_ONCE = 64
"""Packets read from one device before the others are looked at."""
LONGEST_QUEUE = 20_000
"""Packets on their way by one line in one direction; more are lost, as in any router."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a packet meets in each direction."""

    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Up to so many seconds more; packets stay in their order."""
    loss: float = 0.0
    """The share that is lost, 0 to 1."""
    silent: bool = False
    """Nothing comes through."""


class Schedule:
    """Which packets are on their way, and when each arrives. Pure but for its random numbers."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heap: list[tuple[float, int, int, bytes]] = []
        self._last: dict[int, float] = {}
        self._waiting: Counter[int] = Counter()
        self._count = 0

    def take(self, now: float, line: Line, out: int, packet: bytes) -> None:
        """A packet that is to leave by `out`."""
        if line.silent or self._waiting[out] >= LONGEST_QUEUE or self._random.random() < line.loss:
            return
        arrives = now + line.delay + self._random.random() * line.jitter
        arrives = self._last[out] = max(arrives, self._last.get(out, 0.0))
        self._count += 1
        self._waiting[out] += 1
        heapq.heappush(self._heap, (arrives, self._count, out, packet))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """The packets that have arrived, in their order."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, _, out, packet = heapq.heappop(self._heap)
            self._waiting[out] -= 1
            found.append((out, packet))
        return found

    def wait(self, now: float) -> float | None:
        """Seconds until the next arrives; None where none is on its way."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None


def open_tun(space: str, dev: str) -> int:
    """A descriptor of a TUN device that is there. Raises OSError."""
    with within(space):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", dev.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


class Relay:
    """All lines of a lab, in one thread."""

    def __init__(self, lines: Mapping[str, tuple[Line, int, int]], control: socket.socket) -> None:
        """Name -> the line and the descriptors of its two ends."""
        self.lines = {name: line for name, (line, _, _) in lines.items()}
        self._ends = {a: (name, b) for name, (_, a, b) in lines.items()}
        self._ends |= {b: (name, a) for name, (_, a, b) in lines.items()}
        self._control = control
        self._schedule = Schedule(Random())

    def run(self) -> None:
        readers = [*self._ends, self._control.fileno()]
        while True:
            # select counts in microseconds, where epoll would add up to a millisecond to each way.
            ready, _, _ = select.select(readers, [], [], self._schedule.wait(time.monotonic()))
            for descriptor in ready:
                if descriptor == self._control.fileno():
                    self._answer()
                else:
                    self._read(descriptor)
            for out, packet in self._schedule.due(time.monotonic()):
                try:
                    os.write(out, packet)
                except OSError:
                    pass  # the far end is down or full: lost, as on any line

    def _read(self, descriptor: int) -> None:
        name, out = self._ends[descriptor]
        line = self.lines[name]
        for _ in range(AT_ONCE):
            try:
                packet = os.read(descriptor, LARGEST)
            except OSError:
                return
            self._schedule.take(time.monotonic(), line, out, packet)

    def _answer(self) -> None:
        connection, _ = self._control.accept()
        with connection:
            connection.settimeout(1.0)
            try:
                if line := connection.makefile("rb").readline():
                    connection.sendall(json.dumps(self.change(json.loads(line))).encode() + b"\n")
            except (OSError, ValueError, TypeError) as error:
                sys.stderr.write(f"control: {error}\n")

    def change(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sets what a line is; what is not named stays. The answer is what it is now."""
        name, values = request.get("line"), request.get("values") or {}
        if name not in self.lines:
            return {"error": f"there is no line {name!r}: {', '.join(sorted(self.lines))}"}
        if unknown := values.keys() - Line.__dataclass_fields__.keys():
            return {"error": f"a line has no {', '.join(sorted(unknown))}"}
        line = self.lines[name] = replace(self.lines[name], **values)
        return {"line": {field: getattr(line, field) for field in Line.__dataclass_fields__}}


def main(path: str) -> None:
    settings = json.loads(Path(path).read_text())
    lines = {}
    for entry in settings["lines"]:
        a, b = (open_tun(space, dev) for space, dev in entry["ends"])
        lines[entry["name"]] = (Line(**entry["line"]), a, b)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(settings["socket"])
        control.listen(16)
        Relay(lines, control).run()


if __name__ == "__main__":
    main(sys.argv[1])
