"""Probes gateways, addresses, ports, web servers and resolvers, and provokes packets from WireGuard peers."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from reconciler.kinds.peer import endpoint_parts

SYNS = 8
"""Number of connections if an answer may come through any of several tunnels; each has its own port, so its own
path."""
DISCARD = 9
"""The port to connect to (RFC 863). If nothing listens there, the refusal is the desired answer."""
AGAIN = 0.2
"""Seconds between two tries of one question."""
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def ask_all(questions: Iterable[Callable[[float], bool]], seconds: float) -> list[bool]:
    """Whether each question was answered in time; all are asked at once, each in its own thread."""
    end = time.monotonic() + seconds
    asked = list(questions)
    answers = [False] * len(asked)

    def ask(number: int) -> None:
        with suppress(OSError, ValueError):
            answers[number] = asked[number](seconds)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)


def gateway(address: str, dev: str, seconds: float) -> bool:
    """Whether a router on this link is alive: it answers an echo, or at least ARP or NDP."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if ping(address, min(0.25, left), dev) or _neighbour(address, dev):
            return True
    return False


def _neighbour(address: str, dev: str) -> bool:
    """Whether a neighbour answers the kernel, which is made to ask again."""
    _ip("neigh", "change", address, "dev", dev, "nud", "probe")
    time.sleep(0.1)
    return "REACHABLE" in _ip("neigh", "show", "to", address, "dev", dev)


def _ip(*words: str) -> str:
    command = ["ip", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5.0, start_new_session=True)
    return done.stdout


def ping(address: str, seconds: float, dev: str = "") -> bool:
    """Whether an address answers an echo request. Raises OSError."""
    end = time.monotonic() + seconds
    version = _version(address)
    with _raw(version, dev) as connection:
        sequence = 0
        while (left := end - time.monotonic()) > 0:
            sequence += 1
            number = os.getpid() & 0xFFFF ^ threading.get_ident() >> 12 & 0xFFFF
            with suppress(OSError):
                connection.sendto(_echo(version, number, sequence), (address, 0))
            if _replied(connection, version, number, min(left, AGAIN)):
                return True
    return False


def _replied(connection: socket.socket, version: int, number: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(2048)
        except TimeoutError:
            return False
        if version == 4:
            data = data[(data[0] & 15) * 4 :]
        if len(data) >= 8 and data[0] == _REPLY[version] and struct.unpack_from("!H", data, 4)[0] == number:
            return True
    return False


def tcp(target: str, seconds: float) -> bool:
    """Whether something accepts connections at `address:port`. Raises OSError."""
    host, port = endpoint_parts(target)
    return _until(seconds, lambda left: _connect(host, port, left))


def _connect(host: str, port: int, seconds: float) -> bool:
    socket.create_connection((host, port), timeout=seconds).close()
    return True


def web(url: str, seconds: float) -> bool:
    """Whether a URL returns a status below 400."""
    return _until(seconds, lambda left: _get(url, left))


def _get(url: str, seconds: float) -> bool:
    import http.client  # here, because it costs 10 ms and few hosts need it

    parts = urlsplit(url)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        return connection.getresponse().status < 400
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def resolves(name: str, server: str, seconds: float) -> bool:
    """Whether a name resolves, at the given server if there is one."""
    if not server:
        return _until(seconds, lambda left: bool(socket.getaddrinfo(name, None)))
    return _until(seconds, lambda left: _query(name, server, min(left, 1.0)))


def _query(name: str, server: str, seconds: float) -> bool:
    """Send one query for an A record (RFC 1035); any answer with a record counts."""
    number = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    question = number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)
    with socket.socket(_FAMILY[_version(server)], socket.SOCK_DGRAM) as connection:
        connection.settimeout(seconds)
        connection.connect((server, 53))
        connection.send(question)
        answer = connection.recv(4096)
    flags, _, answers = struct.unpack_from("!HHH", answer, 2)
    return answer[:2] == number and flags & 0x800F == 0x8000 and answers > 0


def _until(seconds: float, ask: Callable[[float], bool]) -> bool:
    """Ask again until there is an answer or the time is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(OSError, struct.error):
            if ask(left):
                return True
        time.sleep(min(AGAIN, max(0.0, end - time.monotonic())))
    return False


def provoke(dev: str, address: str, shared: bool) -> None:
    """Send a packet through a tunnel that its far end answers by itself.

    It is an echo request with a TTL of one hop: the owner of the address answers it, and any other router reports that
    its time is exceeded. If several tunnels lead to one host, this answer always takes the same one. So connections are
    begun too: the refusals from many ports come through all tunnels.
    """
    version = _version(address)
    with suppress(OSError), _raw(version, dev) as connection:
        hops = (socket.IPPROTO_IP, socket.IP_TTL) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        connection.setsockopt(*hops, 1)
        connection.sendto(_echo(version, os.getpid() & 0xFFFF, 1), (address, 0))
    for _ in range(SYNS if shared else 0):
        with suppress(OSError), socket.socket(_FAMILY[version], socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
            connection.connect_ex((address, DISCARD))


def _raw(version: int, dev: str) -> socket.socket:
    """A raw socket, bound to an interface if one is named. Raises OSError."""
    connection = socket.socket(_FAMILY[version], socket.SOCK_RAW, _PROTOCOL[version])
    try:
        if dev:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
        connection.setblocking(False)
    except OSError:
        connection.close()
        raise
    return connection


def _echo(version: int, number: int, sequence: int) -> bytes:
    """An echo request (RFC 792, RFC 4443); the kernel computes the ICMPv6 checksum."""
    body = struct.pack("!HH8s", number, sequence, b"gitwan\0\0")
    head = bytes([_REQUEST[version], 0])
    return head + (checksum(head + b"\0\0" + body) if version == 4 else b"\0\0") + body


def checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
