"""Paced UDP flows from one place to another on one machine, and what became of each packet.

    python -m bench.flows receive PORT FILE          until SIGTERM; then FILE has every arrival
    python -m bench.flows send ADDRESS PORT FLOWS RATE [SOURCE]    until SIGTERM; RATE packets a second in each flow

Flow N leaves from port SOURCES + N. Where ADDRESS or SOURCE are several, with commas, the flows take them in turn.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import NoReturn

SOURCES = 20000
_PACKET = struct.Struct("!HId")
"""Flow, sequence, and when it was sent (the machine's real-time clock, as the kernel's time stamps have it)."""
_TIMESPEC = struct.Struct("=qq")
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
ROOM = 8 << 20
"""Bytes that wait for a receiver which has no turn: what a busy machine is slow to read is not lost on the way."""
BEHIND = 0.05
"""Seconds that a sender may be late and still make up for."""


class Ended(Exception):  # noqa: N818 - it is no error: somebody has seen enough
    """This process was told to end."""


@dataclass(frozen=True, slots=True)
class Arrival:
    sequence: int
    sent: float
    arrived: float


@dataclass(frozen=True, slots=True)
class Flow:
    """What arrived of one flow, in its order of arrival."""

    arrivals: Sequence[Arrival]

    @property
    def lost(self) -> int:
        """Packets that never came, of those before the last one that did; the first has number 0."""
        seen = {arrival.sequence for arrival in self.arrivals}
        return max(seen) + 1 - len(seen)

    def gap(self, pace: float, since: float = 0.0, until: float = float("inf")) -> float:
        """The longest time between two arrivals within a span, in seconds, less what the sender itself was late by.

        `pace` is the flow's, in packets a second.
        """
        return max(
            (_apart(a, b, pace) for a, b in pairwise(self.arrivals) if since <= b.arrived and a.arrived <= until),
            default=0.0,
        )

    @property
    def reordered(self) -> int:
        """Arrivals that were overtaken."""
        return sum(a.sequence > b.sequence for a, b in pairwise(self.arrivals))


def _apart(a: Arrival, b: Arrival, pace: float) -> float:
    late = (b.sent - a.sent) - (b.sequence - a.sequence) / pace
    return b.arrived - a.arrived - max(0.0, late)


def read(file: Path) -> Mapping[int, Flow]:
    """Flow -> what arrived of it."""
    found: dict[int, list[Arrival]] = {}
    for flow, *arrival in json.loads(file.read_text()):
        found.setdefault(flow, []).append(Arrival(*arrival))
    return {flow: Flow(arrivals) for flow, arrivals in found.items()}


def receive(port: int, file: Path) -> None:
    arrivals: list[tuple[int, int, float, float]] = []
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with suppress(PermissionError):
            listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        listener.bind(("::", port))
        try:
            file.with_suffix(".ready").touch()
            while True:
                packet, control, _, _ = listener.recvmsg(2048, 64)
                flow, sequence, sent = _PACKET.unpack_from(packet)
                seconds, nanoseconds = _TIMESPEC.unpack(control[0][2])
                arrivals.append((flow, sequence, sent, seconds + nanoseconds / 1e9))
        except Ended:
            file.write_text(json.dumps(arrivals))


def send(address: str, port: int, flows: int, rate: float, source: str = "", size: int = 100) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    addresses, sources = address.split(","), source.split(",")
    sockets = []
    for flow in range(flows):
        sender = socket.socket(family, socket.SOCK_DGRAM)
        sender.bind((sources[flow % len(sources)], SOURCES + flow))
        sockets.append(sender)
    padding = bytes(size - _PACKET.size)
    due, step, turn = time.monotonic(), 1.0 / (rate * flows), 0
    try:
        while True:
            sequence, flow = divmod(turn, flows)
            packet = _PACKET.pack(flow, sequence, time.time()) + padding
            try:
                sockets[flow].sendto(packet, (addresses[flow % len(addresses)], port))
            except OSError:
                pass  # refused by a router; the receiver misses it
            turn, due = turn + 1, following(due, step, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    except Ended:
        for sender in sockets:
            sender.close()


def following(due: float, step: float, now: float) -> float:
    """When the packet after the one of `due` is due.

    What a sender that was stopped for a while had no time to send is not sent in a burst: queues on the way would drop
    it, and nobody could tell that from what is measured.
    """
    return max(due + step, now - BEHIND)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise Ended


def main(words: Sequence[str]) -> None:
    # A handler of our own: Python raises KeyboardInterrupt only where SIGINT was not ignored at the start, and it is
    # ignored in a job that a shell started in the background.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    match words:
        case ["receive", port, file]:
            receive(int(port), Path(file))
        case ["send", address, port, flows, rate, *source]:
            send(address, int(port), int(flows), float(rate), *source)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
