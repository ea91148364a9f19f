"""The kernel's WireGuard over generic netlink (linux/wireguard.h)."""

from __future__ import annotations

import errno
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from struct import Struct

from reconciler.kinds.base import Session
from reconciler.system.ip import pack, pack_prefix, unpack
from reconciler.system.netlink import (
    GENERIC,
    NESTED,
    U16,
    U32,
    Netlink,
    attribute,
    attribute_text,
    attribute_u32,
    attributes,
    each_attribute,
    nested,
)
from reconciler.system.wg import (
    ALLOWED_IPS,
    NEVER,
    DeviceSet,
    DeviceState,
    PeerMemory,
    PeerSet,
    one_by_one,
)
from reconciler.system.wg_key import encode, public_key
from schema.ip import endpoint_text
from schema.plan import Peer

GET_DEVICE, SET_DEVICE = 0, 1
WGDEVICE_IFNAME, WGDEVICE_PRIVATE_KEY, WGDEVICE_PUBLIC_KEY = 2, 3, 4
WGDEVICE_LISTEN_PORT, WGDEVICE_FWMARK, WGDEVICE_PEERS = 6, 7, 8
WGPEER_PUBLIC_KEY, WGPEER_PRESHARED_KEY, WGPEER_FLAGS, WGPEER_ENDPOINT, WGPEER_KEEPALIVE = 1, 2, 3, 4, 5
WGPEER_LAST_HANDSHAKE, WGPEER_RX_BYTES, WGPEER_TX_BYTES, WGPEER_ALLOWEDIPS = 6, 7, 8, 9
WGALLOWEDIP_FAMILY, WGALLOWEDIP_IPADDR, WGALLOWEDIP_MASK = 1, 2, 3
REMOVE_ME, REPLACE_ALLOWEDIPS, UPDATE_ONLY = 1, 2, 4

_CTRL = 0x10
_CTRL_GETFAMILY = 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME = 1, 2
_AF_INET, _AF_INET6 = 2, 10

GENL = Struct("=BBH")
"""struct genlmsghdr: command, version, reserved."""
_HEAD = Struct("=HH32sHHI")
_ENDPOINT = Struct("=HHH2s4s8x")
_ENDPOINT6 = Struct("=HHH2sI16sI")
_KEEPALIVE = Struct("=HHHxx")
_IP = Struct("=HHHHHxxHH4sHHBxxx")
_IP6 = Struct("=HHHHHxxHH16sHHBxxx")
"""Attributes with lengths and types, adjacent ones in one call, because there may be thousands of peers. The endpoints
contain a struct sockaddr_in or sockaddr_in6."""
TIMESPEC = Struct("=qq")
U64 = Struct("=Q")

MESSAGE_BYTES = 32 * 1024
"""An attribute's length has 16 bits, and all peers of a message are one attribute."""


def encode_device(name: str, settings: DeviceSet) -> bytes:
    """The body of a SET_DEVICE for a device's own fields."""
    parts = [attribute_text(WGDEVICE_IFNAME, name)]
    if settings.private_key is not None:
        parts.append(attribute(WGDEVICE_PRIVATE_KEY, settings.private_key))
    if settings.listen_port is not None:
        parts.append(attribute(WGDEVICE_LISTEN_PORT, U16.pack(settings.listen_port)))
    if settings.fwmark is not None:
        parts.append(attribute_u32(WGDEVICE_FWMARK, settings.fwmark))
    return GENL.pack(SET_DEVICE, 1, 0) + b"".join(parts)


def encode_peer(peer: PeerSet) -> bytes:
    """One peer in the list of a device's peers; a transient one is encoded twice."""
    flags = (
        REMOVE_ME * peer.remove | REPLACE_ALLOWEDIPS * peer.replace_allowed_ips | UPDATE_ONLY * peer.update_only
    )  # fmt: skip
    parts = [_HEAD.pack(36, WGPEER_PUBLIC_KEY, peer.public_key, 8, WGPEER_FLAGS, flags)]
    if peer.preshared_key is not None:
        parts.append(attribute(WGPEER_PRESHARED_KEY, peer.preshared_key))
    if peer.endpoint is not None:
        parts.append(encode_endpoint(*peer.endpoint))
    if peer.keepalive is not None:
        parts.append(_KEEPALIVE.pack(6, WGPEER_KEEPALIVE, peer.keepalive))
    if peer.allowed_ips:
        parts.append(nested(WGPEER_ALLOWEDIPS, *map(_encode_ip, peer.allowed_ips)))
    data = nested(0, *parts)
    return data + encode_peer(PeerSet(peer.public_key, remove=True)) if peer.transient else data


def _encode_ip(prefix: str) -> bytes:
    family, address, length = pack_prefix(prefix)
    size = len(address)
    form = _IP if size == 4 else _IP6
    return form.pack(
        form.size, NESTED, 6, WGALLOWEDIP_FAMILY, family, size + 4, WGALLOWEDIP_IPADDR, address,
        5, WGALLOWEDIP_MASK, length,
    )  # fmt: skip


def encode_endpoint(address: str, port: int) -> bytes:
    """The attribute with an endpoint."""
    data, wire_port = pack(address), port.to_bytes(2, "big")
    if len(data) == 4:
        return _ENDPOINT.pack(_ENDPOINT.size, WGPEER_ENDPOINT, _AF_INET, wire_port, data)
    return _ENDPOINT6.pack(_ENDPOINT6.size, WGPEER_ENDPOINT, _AF_INET6, wire_port, 0, data, 0)


def decode_endpoint(data: bytes) -> str | None:
    """`address:port`; None if the peer has no endpoint."""
    if len(data) < 8:
        return None
    family, port = U16.unpack_from(data)[0], int.from_bytes(data[2:4], "big")
    if family == _AF_INET:
        return endpoint_text(unpack(data[4:8]), port)
    if family == _AF_INET6 and len(data) >= 24:
        return endpoint_text(unpack(data[8:24]), port)
    return None


def split_peer(peer: PeerSet) -> Iterator[PeerSet]:
    """Split a peer with too many allowed IPs for a message: the first part, then additions to it."""
    yield replace(peer, allowed_ips=peer.allowed_ips[:ALLOWED_IPS]) if len(peer.allowed_ips) > ALLOWED_IPS else peer
    for start in range(ALLOWED_IPS, len(peer.allowed_ips), ALLOWED_IPS):
        yield PeerSet(peer.public_key, update_only=True, allowed_ips=peer.allowed_ips[start : start + ALLOWED_IPS])


def encode_peers(name: str, peers: Sequence[PeerSet]) -> list[tuple[bytes, list[int]]]:
    """Bodies of SET_DEVICE messages, each with the positions of its peers."""
    head = GENL.pack(SET_DEVICE, 1, 0) + attribute_text(WGDEVICE_IFNAME, name)
    groups: list[tuple[list[bytes], list[int]]] = []
    size = MESSAGE_BYTES
    for position, peer in enumerate(peers):
        for piece in split_peer(peer):
            data = encode_peer(piece)
            if size + len(data) > MESSAGE_BYTES:
                groups.append(([], []))
                size = 0
            parts, positions = groups[-1]
            parts.append(data)
            positions.append(position)
            size += len(data)
    return [(head + nested(WGDEVICE_PEERS, *parts), positions) for parts, positions in groups]


def decode(name: str, bodies: Sequence[bytes], memory: PeerMemory, now: float) -> DeviceState:
    """A device from the responses to GET_DEVICE; `now` is in seconds since the epoch.

    Peers and even one peer's allowed IPs may continue in the next message, which then repeats the public key.
    """
    device = DeviceState(name)
    peers: dict[bytes, dict[int, bytes]] = {}
    allowed: dict[bytes, list[str]] = {}
    for body in bodies:
        for kind, payload in each_attribute(body, GENL.size):
            if kind == WGDEVICE_PRIVATE_KEY and not device.public_key:
                device.public_key = public_key(payload) if any(payload) else ""
            elif kind == WGDEVICE_PUBLIC_KEY:
                device.public_key = encode(payload)
            elif kind == WGDEVICE_LISTEN_PORT:
                device.listen_port = U16.unpack(payload)[0]
            elif kind == WGDEVICE_FWMARK:
                device.fwmark = U32.unpack(payload)[0]
            elif kind == WGDEVICE_PEERS:
                for _, peer in each_attribute(payload):
                    fields = attributes(peer)
                    public = fields[WGPEER_PUBLIC_KEY]
                    peers.setdefault(public, fields)
                    ips = each_attribute(fields.get(WGPEER_ALLOWEDIPS, b""))
                    allowed.setdefault(public, []).extend(_decode_ip(ip) for _, ip in ips)
    for public, fields in peers.items():
        endpoint = decode_endpoint(fields.get(WGPEER_ENDPOINT, b""))
        keepalive = U16.unpack(fields.get(WGPEER_KEEPALIVE, b"\0\0"))[0]
        preshared = fields.get(WGPEER_PRESHARED_KEY, b"")
        resource = memory.peer(
            name, b64encode(public).decode(), preshared, endpoint, keepalive, allowed[public]
        )  # fmt: skip
        device.peers.append((resource, _session(fields, endpoint, now)))
    memory.turn()
    return device


def _decode_ip(data: bytes) -> str:
    fields = attributes(data)
    return f"{unpack(fields[WGALLOWEDIP_IPADDR])}/{fields[WGALLOWEDIP_MASK][0]}"


def _session(fields: dict[int, bytes], endpoint: str | None, now: float) -> Session:
    seconds, nanoseconds = TIMESPEC.unpack(fields.get(WGPEER_LAST_HANDSHAKE, bytes(16)))
    age = max(0.0, now - seconds - nanoseconds / 1e9) if seconds else None
    if age is None and endpoint is None:
        return NEVER
    rx, tx = (U64.unpack(fields.get(kind, bytes(8)))[0] for kind in (WGPEER_RX_BYTES, WGPEER_TX_BYTES))
    return Session(endpoint, age, rx, tx)


class NetlinkBackend:
    """Devices of the kernel. The socket is opened at first use, because the family may come with a module."""

    def __init__(self) -> None:
        self._netlink: Netlink | None = None
        self._family = 0
        self._memories: dict[str, PeerMemory] = {}

    def read(self, name: str) -> DeviceState:
        body = GENL.pack(GET_DEVICE, 1, 0) + attribute_text(WGDEVICE_IFNAME, name)
        netlink = self._open()
        bodies = netlink.dump(self._family, body)
        return decode(name, bodies, self._memories.setdefault(name, PeerMemory()), time.time())

    def remember(self, name: str, peers: Iterable[Peer]) -> None:
        self._memories.setdefault(name, PeerMemory()).learn(peers)

    def set_device(self, name: str, settings: DeviceSet) -> None:
        netlink = self._open()
        netlink.request((self._family, 0, encode_device(name, settings)))

    def set_peers(self, name: str, peers: Sequence[PeerSet]) -> dict[int, OSError]:
        netlink = self._open()
        bodies = encode_peers(name, peers)
        refused = netlink.batch([(self._family, 0, body) for body, _ in bodies])
        errors: dict[int, OSError] = {}
        for message, error in refused.items():
            positions = bodies[message][1]
            if len(peers) == 1:
                errors[0] = error
                continue
            # The kernel stops at the first peer of a message that it refuses, and does not tell which one.
            for place, one in one_by_one(self, name, [peers[position] for position in positions]).items():
                errors[positions[place]] = one
        return errors

    def _open(self) -> Netlink:
        """The socket. Raises OSError, EOPNOTSUPP on a kernel without WireGuard."""
        if self._netlink is None:
            netlink = Netlink(GENERIC)
            try:
                self._family = _family_id(netlink, "wireguard")
            except OSError as error:
                netlink.close()
                if error.errno == errno.ENOENT:
                    raise OSError(errno.EOPNOTSUPP, "the kernel has no WireGuard") from None
                raise
            self._netlink = netlink
        return self._netlink


def _family_id(netlink: Netlink, name: str) -> int:
    """The kernel's number of a generic netlink family. Raises OSError, ENOENT if there is none."""
    body = GENL.pack(_CTRL_GETFAMILY, 1, 0) + attribute_text(_CTRL_FAMILY_NAME, name)
    answer = netlink.request((_CTRL, 0, body))
    return int(U16.unpack(attributes(answer[0], GENL.size)[_CTRL_FAMILY_ID])[0])
