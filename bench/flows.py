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
"""Flow, sequence number, and time of sending (the machine's real-time clock, like the kernel's time stamps)."""
_TIMESPEC = struct.Struct("=qq")
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
ROOM = 8 << 20
"""The receive buffer in bytes. A busy machine then reads packets late, but does not lose them."""
BEHIND = 0.05
"""A sender that is late by at most this number of seconds catches up."""


class Ended(Exception):  # noqa: N818 - it is no error: somebody has seen enough
    """This process was told to end."""


@dataclass(frozen=True, slots=True)
class Arrival:
    sequence: int
    sent: float
    arrived: float


@dataclass(frozen=True, slots=True)
class Flow:
    """The packets of one flow that arrived, in order of arrival."""

    arrivals: Sequence[Arrival]

    @property
    def lost(self) -> int:
        """The number of lost packets before the last one that arrived. The first packet has number 0."""
        seen = {arrival.sequence for arrival in self.arrivals}
        return max(seen) + 1 - len(seen)

    def gap(self, pace: float, since: float = 0.0, until: float = float("inf")) -> float:
        """The longest time between two arrivals in a time span, in seconds, without the sender's own delay.

        `pace` is the rate of the flow in packets per second.
        """
        return max(
            (_apart(a, b, pace) for a, b in pairwise(self.arrivals) if since <= b.arrived and a.arrived <= until),
            default=0.0,
        )

    @property
    def reordered(self) -> int:
        """The number of packets that arrived after a later one."""
        return sum(a.sequence > b.sequence for a, b in pairwise(self.arrivals))


def _apart(a: Arrival, b: Arrival, pace: float) -> float:
    late = (b.sent - a.sent) - (b.sequence - a.sequence) / pace
    return b.arrived - a.arrived - max(0.0, late)


def read(file: Path) -> Mapping[int, Flow]:
    """Flow -> the packets that arrived."""
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
                pass  # a router refused the packet; it is missing at the receiver
            turn, due = turn + 1, following(due, step, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    except Ended:
        for sender in sockets:
            sender.close()


def following(due: float, step: float, now: float) -> float:
    """The time of the next packet after the one at `due`.

    If the sender was stopped for a while, it does not send the missed packets in a burst. Queues on the way would drop
    such a burst, and these losses would look like the ones to be measured.
    """
    return max(due + step, now - BEHIND)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise Ended


def main(words: Sequence[str]) -> None:
    # An explicit handler: Python raises KeyboardInterrupt only if SIGINT was not ignored at the start, and it is
    # ignored in a background job of a shell.
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
