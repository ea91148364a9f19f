"""ICMPv6 echo within tunnels (RFC 4443, 4): non-blocking, over one socket for all of them.

The addresses are link-local, so the far kernel answers through the same interface, whatever its routes, and with or
without an agent.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from struct import Struct

ECHO_REQUEST, ECHO_REPLY = 128, 129
ICMPV6_FILTER = 1
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE = 23, 3
"""linux/in6.h: never fragment here, whatever path MTU was learned before."""
HEADERS = 48
"""Bytes of the IPv6 and ICMPv6 headers."""
AT_ONCE = 4096
"""Maximum number of answers per call, so that a flood does not keep this host busy here."""
_HEADER = Struct("!BBHHH")
_PKTINFO = Struct("=16sI")


class Echo:
    """A raw ICMPv6 socket in the network namespace of the thread that creates it."""

    def __init__(self) -> None:
        """Raises OSError if this process lacks CAP_NET_RAW."""
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
        """Send one request; `size` is that of the whole packet, in bytes. An unsendable request counts as lost."""
        data = bytes(max(0, (size or 0) - HEADERS))
        packet = _HEADER.pack(ECHO_REQUEST, 0, 0, self._identifier, sequence) + data
        for fresh in (False, True):
            # An interface that was created again has another index.
            with suppress(OSError):
                index = self._index(dev, fresh)
                info = _PKTINFO.pack(socket.inet_pton(socket.AF_INET6, source), index)
                control = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
                self._socket.sendmsg([packet], control, 0, (target, 0, 0, index))
                return

    def receive(self) -> list[tuple[str, int]]:
        """The device and sequence of every received answer."""
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
