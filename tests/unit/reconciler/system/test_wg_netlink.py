"""WireGuard's netlink messages as bytes."""

from __future__ import annotations

from struct import pack

from reconciler.system.netlink import attribute, attribute_text, attribute_u32, attributes, each_attribute, nested
from reconciler.system.wg import ALLOWED_IPS, DeviceSet, PeerMemory, PeerSet
from reconciler.system.wg_key import encode, public_key
from reconciler.system.wg_netlink import (
    MESSAGE_BYTES,
    decode,
    decode_endpoint,
    encode_device,
    encode_endpoint,
    encode_peer,
    encode_peers,
)

KEY = bytes(range(32))
HEAD = b"\0\1\0\0"


def allowed(family: int, address: bytes, length: int) -> bytes:
    return nested(0, attribute(1, pack("=H", family)), attribute(2, address), attribute(3, bytes([length])))


def test_a_device() -> None:
    found = attributes(encode_device("wg0", DeviceSet(KEY, 51820, 0x75)), 4)
    assert found == {2: b"wg0\0", 3: KEY, 6: pack("=H", 51820), 7: pack("=I", 0x75)}
    assert attributes(encode_device("wg0", DeviceSet()), 4) == {2: b"wg0\0"}


def test_a_peer() -> None:
    peer = PeerSet(
        KEY, replace_allowed_ips=True, update_only=True, allowed_ips=["10.0.0.0/8", "fd00::/16"],
        endpoint=("192.0.2.1", 258), keepalive=25, preshared_key=bytes(32),
    )  # fmt: skip
    found = attributes(attributes(encode_peer(peer))[0])
    assert (found[1], found[2], found[3], found[5]) == (KEY, bytes(32), pack("=I", 6), pack("=H", 25))
    assert found[4] == b"\2\0\1\2\xc0\0\2\1" + bytes(8)
    assert found[9] == allowed(2, bytes([10, 0, 0, 0]), 8) + allowed(10, b"\xfd" + bytes(15), 16)


def test_a_removal_says_nothing_else() -> None:
    assert attributes(attributes(encode_peer(PeerSet(KEY, remove=True)))[0]) == {1: KEY, 3: pack("=I", 1)}


def test_a_transient_peer_and_its_removal_are_never_apart() -> None:
    ips = [f"fd00::{number:x}/128" for number in range(ALLOWED_IPS)]
    peers = [PeerSet(number.to_bytes(32, "big"), allowed_ips=ips, transient=True) for number in range(5)]
    for body, _ in encode_peers("wg0", peers):
        found = [attributes(data) for _, data in each_attribute(attributes(body, 4)[8])]
        assert [piece[1] for piece in found[::2]] == [piece[1] for piece in found[1::2]]
        assert [piece[3] for piece in found] == [pack("=I", 0), pack("=I", 1)] * (len(found) // 2)


def test_endpoints_both_ways() -> None:
    for address, port, text in (("192.0.2.1", 1, "192.0.2.1:1"), ("2001:db8::1", 65535, "[2001:db8::1]:65535")):
        assert decode_endpoint(encode_endpoint(address, port)[4:]) == text
    assert decode_endpoint(b"") is None


def test_many_peers_go_in_several_messages_none_too_long() -> None:
    peers = [PeerSet(number.to_bytes(32, "big"), allowed_ips=["10.0.0.0/8"] * 3) for number in range(1000)]
    bodies = encode_peers("wg0", peers)
    assert all(len(body) < MESSAGE_BYTES + 1024 for body, _ in bodies)
    assert [position for _, positions in bodies for position in positions] == list(range(1000))


def test_a_peer_too_long_for_a_message_is_continued_without_dropping_what_it_has() -> None:
    peer = PeerSet(KEY, replace_allowed_ips=True, allowed_ips=[f"10.{i >> 8}.{i & 255}.0/24" for i in range(1200)])
    pieces = []
    for body, positions in encode_peers("wg0", [PeerSet(bytes(32)), peer]):
        assert set(positions) <= {0, 1}
        pieces += [attributes(data) for _, data in each_attribute(attributes(body, 4)[8])]
    flags = [piece[3] for piece in pieces if piece[1] == KEY]
    assert flags == [pack("=I", 2), pack("=I", 4), pack("=I", 4)]
    assert sum(len(list(each_attribute(piece.get(9, b"")))) for piece in pieces) == 1200


def test_no_peers_are_no_message() -> None:
    assert encode_peers("wg0", []) == []


def test_peers_and_their_allowed_ips_span_messages() -> None:
    first = nested(
        0, attribute(1, KEY), attribute(2, bytes(32)), encode_endpoint("192.0.2.1", 51820),
        attribute(5, pack("=H", 25)), attribute(6, pack("=qq", 990, 500_000_000)), attribute(7, pack("=Q", 7)),
        attribute(8, pack("=Q", 8)), nested(9, allowed(2, bytes([10, 1, 0, 0]), 16)),
    )  # fmt: skip
    rest = nested(0, attribute(1, KEY), nested(9, allowed(10, b"\xfd" + bytes(15), 8)))
    other = nested(0, attribute(1, bytes(32)), attribute(2, KEY))
    device = attribute_text(2, "wg0") + attribute(6, pack("=H", 51820)) + attribute_u32(7, 9)
    bodies = [HEAD + attribute(3, KEY) + device + nested(8, first), HEAD + nested(8, rest, other)]
    memory = PeerMemory()
    found = decode("wg0", bodies, memory, now=1000.0)
    assert (found.public_key, found.listen_port, found.fwmark) == (public_key(KEY), 51820, 9)
    (peer, session), (second, silent) = found.peers
    assert (peer.public_key, peer.allowed_ips, peer.keepalive) == (encode(KEY), ("10.1.0.0/16", "fd00::/8"), 25)
    assert peer.preshared_key is None
    assert (session.endpoint, session.handshake_age, session.rx_bytes, session.tx_bytes) == (
        "192.0.2.1:51820",
        9.5,
        7,
        8,
    )
    assert second.preshared_key is not None and encode(KEY) not in repr(second)
    assert (silent.endpoint, silent.handshake_age) == (None, None)
    assert decode("wg0", bodies, memory, now=1001.0).peers[0][0] is peer, "an unchanged peer is the same object"
