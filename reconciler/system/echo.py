"""ICMPv6 echo within tunnels (RFC 4443, 4): sent and received without waiting, over one socket for all of them.

The addresses are link-local, so the far kernel answers by the interface that was asked, whatever its routes say, and
whether or not an agent runs there.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from struct import Struct

ECHO_REQUEST, ECHO_REPLY = 128, 129
ICMPV6_FILTER = 1
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE = 23, 3
"""linux/in6.h: never fragmented here, whatever was learned of the path before."""
HEADERS = 48
"""Bytes of the IPv6 and ICMPv6 headers."""
AT_ONCE = 4096
"""Answers that one call takes: whoever floods this host does not keep it here."""
_HEADER = Struct("!BBHHH")
_PKTINFO = Struct("=16sI")


class Echo:
    """A raw ICMPv6 socket in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        """Raises OSError where this process may not (CAP_NET_RAW)."""
        self._socket = socket.socket(
            socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6
        )
        blocked = bytearray(b"\xff" * 32)
        blocked[ECHO_REPLY // 8] &= ~(1 << ECHO_REPLY % 8)
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, bytes(blocked))
        self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._indices: dict[str, int] = {}

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, dev: str, source: str, target: str, sequence: int, size: int | None) -> None:
        """One request; `size` is the whole packet's, in bytes. What cannot be sent is as good as lost."""
        data = bytes(max(0, (size or 0) - HEADERS))
        packet = _HEADER.pack(ECHO_REQUEST, 0, 0, self._identifier, sequence) + data
        for fresh in (False, True):
            # An interface that was made again has another index.
            with suppress(OSError):
                index = self._index(dev, fresh)
                info = _PKTINFO.pack(socket.inet_pton(socket.AF_INET6, source), index)
                control = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
                self._socket.sendmsg([packet], control, 0, (target, 0, 0, index))
                return

    def receive(self) -> list[tuple[str, int]]:
        """The device and sequence of every answer that has come."""
        found = []
        names = {index: dev for dev, index in self._indices.items()}
        for _ in range(AT_ONCE):
            try:
                packet, address = self._socket.recvfrom(64)
            except BlockingIOError:
                break
            except OSError:
                continue  # an error of an earlier request, which is counted as lost anyway
            if len(packet) < _HEADER.size:
                continue
            kind, _, _, identifier, sequence = _HEADER.unpack_from(packet)
            dev = names.get(address[3])
            if (kind, identifier) == (ECHO_REPLY, self._identifier) and dev is not None:
                found.append((dev, sequence))
        return found

    def _index(self, dev: str, fresh: bool) -> int:
        if fresh or dev not in self._indices:
            self._indices[dev] = socket.if_nametoindex(dev)
        return self._indices[dev]

    def close(self) -> None:
        self._socket.close()
