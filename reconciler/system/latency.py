"""Measures round trips to servers outside any exit: echoes to all at once, then TCP connections to the silent ones."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from reconciler.system.https import SO_MARK

SAMPLES, SPACING, PATIENCE = 3, 0.1, 1.0
"""Echoes to each server, seconds between two of them, and seconds to wait for the last answers."""
TCP_PORT = 443
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")
NOBODY = -1
Samples = dict[str, list[float | None]]


def measure(mark: int, servers: Mapping[str, str]) -> Samples:
    """Name -> several round trips to its address in seconds, each None if unanswered.

    `mark` is the mark that bypasses every exit.
    """
    found: Samples = {name: [None] * SAMPLES for name in servers}
    _echo(mark, servers, found)
    silent = {name: address for name, address in servers.items() if not any(found[name])}
    if silent:
        _connect(mark, silent, found)
    return found


def _echo(mark: int, addresses: Mapping[str, str], found: Samples) -> None:
    names = list(addresses)
    identifier = int.from_bytes(os.urandom(2), "big")
    sockets = {}
    sent: dict[int, float] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for version in {6 if ":" in address else 4 for address in addresses.values()}:
                with suppress(OSError):
                    sockets[version] = _raw(mark, version)
                    selector.register(sockets[version], selectors.EVENT_READ, version)
            for turn in range(SAMPLES):
                for n, name in enumerate(names):
                    sequence = (n * SAMPLES + turn) & 0xFFFF
                    sent[sequence] = time.monotonic()
                    _send(sockets, addresses[name], identifier, sequence)
                last = turn == SAMPLES - 1
                end = time.monotonic() + (PATIENCE if last else SPACING)
                while (left := end - time.monotonic()) > 0:
                    for key, _ in selector.select(left):
                        sequence = _receive(sockets[key.data], key.data, identifier)
                        if sequence in sent:
                            found[names[sequence // SAMPLES]][sequence % SAMPLES] = time.monotonic() - sent[sequence]
                    if last and all(None not in found[name] for name in names):
                        return
        finally:
            for one in sockets.values():
                one.close()


def _raw(mark: int, version: int) -> socket.socket:
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    found = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    _put(mark, found)
    return found


def _put(mark: int, of: socket.socket) -> None:
    with suppress(OSError):  # without the right to set it, a rule for the group sets the mark
        of.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)


def _send(sockets: Mapping[int, socket.socket], address: str, identifier: int, sequence: int) -> None:
    version = 6 if ":" in address else 4
    if version in sockets:
        packet = _HEADER.pack(_REQUEST[version], 0, 0, identifier, sequence)
        if version == 4:
            packet = _HEADER.pack(_REQUEST[4], 0, _checksum(packet), identifier, sequence)
        with suppress(OSError):
            sockets[version].sendto(packet, (address, 0))


def _checksum(packet: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _receive(from_: socket.socket, version: int, identifier: int) -> int:
    """The sequence of an answer to our echo; NOBODY for other packets."""
    try:
        packet: bytes = from_.recv(256)
    except OSError:
        return NOBODY
    body = packet[(packet[0] & 15) * 4 :] if version == 4 else packet
    if len(body) < _HEADER.size:
        return NOBODY
    kind, _, _, ours, sequence = _HEADER.unpack_from(body)
    if kind != _REPLY[version] or ours != identifier:
        return NOBODY
    return int(sequence)


def _connect(mark: int, addresses: Mapping[str, str], found: Samples) -> None:
    """Open one connection to each; a refusal takes as long as an acceptance."""
    started: dict[str, float] = {}
    with selectors.DefaultSelector() as selector:
        sockets: Sequence[socket.socket] = []
        try:
            for name, address in addresses.items():
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                sockets = [*sockets, one]
                _put(mark, one)
                started[name] = time.monotonic()
                if one.connect_ex((address, TCP_PORT)) == errno.EINPROGRESS:
                    selector.register(one, selectors.EVENT_WRITE, name)
            end = time.monotonic() + PATIENCE
            while selector.get_map() and (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    one = key.fileobj  # type: ignore[assignment]
                    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED):
                        found[key.data] = [time.monotonic() - started[key.data]] * SAMPLES
                    selector.unregister(one)
        finally:
            for one in sockets:
                one.close()
