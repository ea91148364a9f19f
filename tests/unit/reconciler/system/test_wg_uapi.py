"""wireguard-go's text protocol."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from threading import Thread

import pytest

from reconciler.system.wg import DeviceSet, PeerMemory, PeerSet
from reconciler.system.wg_key import encode, public_key
from reconciler.system.wg_uapi import UapiBackend, decode, encode_device, encode_peer

KEY = bytes(range(32))
ANSWER = f"""private_key={KEY.hex()}
listen_port=51820
fwmark=9
public_key={KEY.hex()}
preshared_key={bytes(32).hex()}
protocol_version=1
endpoint=[2001:db8::1]:51820
last_handshake_time_sec=990
last_handshake_time_nsec=500000000
tx_bytes=8
rx_bytes=7
persistent_keepalive_interval=25
allowed_ip=10.1.0.0/16
allowed_ip=fd00::/8
public_key={bytes(32).hex()}
preshared_key={KEY.hex()}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=0
rx_bytes=0
persistent_keepalive_interval=0
"""


def test_a_device_is_read() -> None:
    memory = PeerMemory()
    device = decode("wg0", ANSWER, memory, now=1000.0)
    assert (device.public_key, device.listen_port, device.fwmark) == (public_key(KEY), 51820, 9)
    (peer, session), (second, silent) = device.peers
    assert (peer.public_key, peer.allowed_ips, peer.keepalive) == (encode(KEY), ("10.1.0.0/16", "fd00::/8"), 25)
    assert (session.endpoint, session.handshake_age, session.rx_bytes) == ("[2001:db8::1]:51820", 9.5, 7)
    assert second.preshared_key is not None
    assert silent.handshake_age is None
    assert KEY.hex() not in repr(device) and encode(KEY) not in repr(second)
    assert decode("wg0", ANSWER, memory, now=2000.0).peers[0][0] is peer


def test_a_device_without_a_key_has_no_public_key() -> None:
    assert decode("wg0", "listen_port=1\n", PeerMemory(), 0.0).public_key == ""
    assert decode("wg0", f"private_key={bytes(32).hex()}\n", PeerMemory(), 0.0).public_key == ""


def test_what_is_set() -> None:
    assert encode_device(DeviceSet(KEY, 1, 0)) == f"private_key={KEY.hex()}\nlisten_port=1\nfwmark=0\n"
    assert encode_device(DeviceSet()) == ""
    peer = PeerSet(
        KEY, update_only=True, replace_allowed_ips=True, allowed_ips=["10.0.0.0/8"], endpoint=("2001:db8::1", 1),
        keepalive=0, preshared_key=bytes(32),
    )  # fmt: skip
    assert encode_peer(peer).splitlines() == [
        f"public_key={KEY.hex()}",
        "update_only=true",
        f"preshared_key={bytes(32).hex()}",
        "endpoint=[2001:db8::1]:1",
        "persistent_keepalive_interval=0",
        "replace_allowed_ips=true",
        "allowed_ip=10.0.0.0/8",
    ]
    assert encode_peer(PeerSet(KEY, remove=True)) == f"public_key={KEY.hex()}\nremove=true\n"


def test_a_transient_peer_is_made_before_it_is_given_anything_and_removed_at_once() -> None:
    name = f"public_key={KEY.hex()}\n"
    given = f"{name}{name}allowed_ip=10.0.0.0/8\n{name}remove=true\n"
    assert encode_peer(PeerSet(KEY, allowed_ips=["10.0.0.0/8"], transient=True)) == given


def test_secrets_do_not_show() -> None:
    assert "\\x01" not in repr(DeviceSet(KEY)) and "\\x01" not in repr(PeerSet(bytes(32), preshared_key=KEY))


def test_no_process_is_no_device(tmp_path: Path) -> None:
    backend = UapiBackend(tmp_path)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "wg0.sock"))
    stale.close()
    for name in ("wg0", "wg1"):
        assert not backend.answers(name)
        with pytest.raises(OSError) as raised:
            backend.read(name)
        assert raised.value.errno == errno.ENODEV


@pytest.mark.parametrize(
    "answer, number", [("errno=-98\n\n", errno.EADDRINUSE), ("errno=22\n\n", errno.EINVAL), ("", errno.EPIPE)]
)
def test_a_refusal_is_an_error(tmp_path: Path, answer: str, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "wg0.sock"))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(answer.encode())

        thread = Thread(target=serve)
        thread.start()
        with pytest.raises(OSError) as raised:
            UapiBackend(tmp_path).set_device("wg0", DeviceSet(KEY))
        thread.join()
    assert raised.value.errno == number
    assert KEY.hex() not in str(raised.value)
