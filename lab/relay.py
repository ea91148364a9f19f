"""Distance: forwards packets between two TUN devices with delay, jitter and loss. `python -m lab.relay FILE` runs all
lines.

It replaces netem, which not every kernel has. FILE is JSON with two keys. `socket` is the path of the control socket,
which changes lines at run time. `lines` is a list: each line has a name, two ends (namespace and device) and the fields
of `Impairment`.
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
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from lab.impairment import Impairment
from lab.netns import within

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
"""linux/if_tun.h"""
LARGEST = 65536
AT_ONCE = 64
"""The number of packets to read from one device before the other devices get their turn."""
LONGEST_QUEUE = 20_000
"""The maximum number of packets on a line in one direction. Further packets are dropped, as in any router."""


class Schedule:
    """The packets that are on a line, with their arrival times. Pure, except for its random numbers."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heap: list[tuple[float, int, int, bytes]] = []
        self._last: dict[int, float] = {}
        self._waiting: Counter[int] = Counter()
        self._count = 0

    def take(self, now: float, line: Impairment, out: int, packet: bytes) -> None:
        """Add a packet that will leave by the descriptor `out`."""
        if line.silent or self._waiting[out] >= LONGEST_QUEUE or self._random.random() < line.loss:
            return
        arrives = now + line.delay + self._random.random() * line.jitter
        arrives = self._last[out] = max(arrives, self._last.get(out, 0.0))
        self._count += 1
        self._waiting[out] += 1
        heapq.heappush(self._heap, (arrives, self._count, out, packet))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """The packets that have arrived by now, in order."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, _, out, packet = heapq.heappop(self._heap)
            self._waiting[out] -= 1
            found.append((out, packet))
        return found

    def wait(self, now: float) -> float | None:
        """Seconds until the next packet arrives; None if there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None


def open_tun(space: str, dev: str) -> int:
    """A descriptor of an existing TUN device. Raises OSError."""
    with within(space):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", dev.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


class Relay:
    """All lines of a lab, in one thread."""

    def __init__(self, lines: Mapping[str, tuple[Impairment, int, int]], control: socket.socket) -> None:
        """`lines`: name -> the line and the descriptors of its two ends."""
        self.lines = {name: line for name, (line, _, _) in lines.items()}
        self._ends = {a: (name, b) for name, (_, a, b) in lines.items()}
        self._ends |= {b: (name, a) for name, (_, a, b) in lines.items()}
        self._control = control
        self._schedule = Schedule(Random())

    def run(self) -> None:
        readers = [*self._ends, self._control.fileno()]
        while True:
            # The timeout of select has microseconds. epoll would add up to a millisecond in each direction.
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
                    pass  # the far end is down or full: the packet is lost, as on any line

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
        """Change the properties of a line that the request names. Returns all of its properties."""
        name, values = request.get("line"), request.get("values") or {}
        if name not in self.lines:
            return {"error": f"there is no line {name!r}: {', '.join(sorted(self.lines))}"}
        if unknown := values.keys() - Impairment.__dataclass_fields__.keys():
            return {"error": f"a line has no {', '.join(sorted(unknown))}"}
        line = self.lines[name] = replace(self.lines[name], **values)
        return {"line": {field: getattr(line, field) for field in Impairment.__dataclass_fields__}}


def main(path: str) -> None:
    settings = json.loads(Path(path).read_text())
    lines = {}
    for entry in settings["lines"]:
        a, b = (open_tun(space, dev) for space, dev in entry["ends"])
        lines[entry["name"]] = (Impairment(**entry["line"]), a, b)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(settings["socket"])
        control.listen(16)
        Relay(lines, control).run()


if __name__ == "__main__":
    main(sys.argv[1])
