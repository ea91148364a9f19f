"""wireguard-go's text protocol over a Unix socket (https://www.wireguard.com/xplatform/)."""

from __future__ import annotations

import errno
import os
import socket
import time
from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path

from reconciler.kinds.base import Session
from reconciler.system.wg import NEVER, DeviceSet, DeviceState, PeerMemory, PeerSet, one_by_one
from reconciler.system.wg_key import NO_KEY, public_key
from schema.ip import endpoint_text
from schema.plan import Peer

RUN = Path("/var/run/wireguard")
TIMEOUT = 10.0
"""Seconds for one request; 1,000 peers take some hundredths of a second."""
_GROUP = 1000
_GONE = {errno.ENOENT, errno.ECONNREFUSED}


def encode_device(settings: DeviceSet) -> str:
    """The lines that set a device's own fields."""
    lines = []
    if settings.private_key is not None:
        lines.append(f"private_key={settings.private_key.hex()}\n")
    if settings.listen_port is not None:
        lines.append(f"listen_port={settings.listen_port}\n")
    if settings.fwmark is not None:
        lines.append(f"fwmark={settings.fwmark}\n")
    return "".join(lines)


def encode_peer(peer: PeerSet) -> str:
    """The lines that set one peer."""
    name = f"public_key={peer.public_key.hex()}\n"
    if peer.remove:
        return f"{name}remove=true\n"
    lines = [name]
    if peer.transient:
        # Name it twice before it gets prefixes: creating a peer and its routines takes time, during which it must not
        # hold prefixes that a wider prefix of another peer covers too.
        lines.append(name)
    if peer.update_only:
        lines.append("update_only=true\n")
    if peer.preshared_key is not None:
        lines.append(f"preshared_key={peer.preshared_key.hex()}\n")
    if peer.endpoint is not None:
        lines.append(f"endpoint={endpoint_text(*peer.endpoint)}\n")
    if peer.keepalive is not None:
        lines.append(f"persistent_keepalive_interval={peer.keepalive}\n")
    if peer.replace_allowed_ips:
        lines.append("replace_allowed_ips=true\n")
    lines += [f"allowed_ip={prefix}\n" for prefix in peer.allowed_ips]
    if peer.transient:
        lines.append(f"{name}remove=true\n")
    return "".join(lines)


def decode(name: str, text: str, memory: PeerMemory, now: float) -> DeviceState:
    """A device from the response to `get=1`; `now` is in seconds since the epoch, to compute the age of handshakes."""
    device = DeviceState(name)
    head, *peers = text.split("public_key=")
    for key, value in _pairs(head):
        if key == "private_key":
            private = bytes.fromhex(value)
            device.public_key = public_key(private) if private != NO_KEY else ""
        elif key == "listen_port":
            device.listen_port = int(value)
        elif key == "fwmark":
            device.fwmark = int(value)
    for peer in peers:
        public, _, rest = peer.partition("\n")
        fields: dict[str, str] = {}
        allowed: list[str] = []
        for key, value in _pairs(rest):
            if key == "allowed_ip":
                allowed.append(value)
            else:
                fields[key] = value
        endpoint = fields.get("endpoint")
        resource = memory.peer(
            name,
            b64encode(bytes.fromhex(public)).decode(),
            bytes.fromhex(fields.get("preshared_key", "")),
            endpoint,
            int(fields.get("persistent_keepalive_interval", 0)),
            allowed,
        )
        seconds = int(fields.get("last_handshake_time_sec", 0)) + int(fields.get("last_handshake_time_nsec", 0)) / 1e9
        age = max(0.0, now - seconds) if seconds else None
        counts = int(fields.get("rx_bytes", 0)), int(fields.get("tx_bytes", 0))
        session = NEVER if age is None and endpoint is None else Session(endpoint, age, *counts)
        device.peers.append((resource, session))
    memory.turn()
    return device


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            yield key, value


class UapiBackend:
    """Devices of wireguard-go. Each has a socket file in one directory of the mount namespace."""

    def __init__(self, run: Path = RUN) -> None:
        self._run = run
        self._memories: dict[str, PeerMemory] = {}

    def connect(self, name: str) -> socket.socket:
        """A connection to a device's process. Raises OSError, ENODEV if there is none."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(TIMEOUT)
        try:
            client.connect(str(self._run / f"{name}.sock"))
        except OSError as error:
            client.close()
            if error.errno in _GONE:
                raise OSError(errno.ENODEV, f"no wireguard-go answers for {name}") from None
            raise
        return client

    def answers(self, name: str) -> bool:
        """Whether a device has a process. A stale socket file does not answer."""
        try:
            self.connect(name).close()
        except OSError:
            return False
        return True

    def read(self, name: str) -> DeviceState:
        text = self._ask(name, "get=1\n\n")
        memory = self._memories.setdefault(name, PeerMemory())
        return decode(name, text, memory, time.time())

    def remember(self, name: str, peers: Iterable[Peer]) -> None:
        self._memories.setdefault(name, PeerMemory()).learn(peers)

    def set_device(self, name: str, settings: DeviceSet) -> None:
        self._ask(name, f"set=1\n{encode_device(settings)}\n")

    def set_peers(self, name: str, peers: Sequence[PeerSet]) -> dict[int, OSError]:
        errors: dict[int, OSError] = {}
        for start in range(0, len(peers), _GROUP):
            group = peers[start : start + _GROUP]
            try:
                self._ask(name, "set=1\n" + "".join(map(encode_peer, group)) + "\n")
            except OSError as error:
                # The process stops at the first line that it refuses, and does not tell which one.
                found = one_by_one(self, name, group) if len(group) > 1 else {0: error}
                errors |= {start + position: error for position, error in found.items()}
        return errors

    def _ask(self, name: str, question: str) -> str:
        """Send one request. Returns the response without its `errno=` line. Raises OSError unless it is `errno=0`."""
        answer = bytearray()
        with self.connect(name) as client:
            client.sendall(question.encode())
            while not answer.endswith(b"\n\n"):
                data = client.recv(1 << 18)
                if not data:
                    break
                answer += data
        text, found, code = answer.decode().rpartition("errno=")
        if not found:
            raise OSError(errno.EPIPE, f"wireguard-go hung up on {name}")
        number = abs(int(code))
        if number:
            raise OSError(number, os.strerror(number))
        return text
