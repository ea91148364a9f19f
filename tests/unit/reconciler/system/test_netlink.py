"""Messages and errors, against a kernel that is one end of a socket pair."""

from __future__ import annotations

import errno
import socket
from struct import pack

import pytest

from reconciler.system.netlink import Netlink, attribute, attributes, each_attribute, nested, text_of


class Kernel(Netlink):
    """A netlink socket whose kernel answers what the test wrote down."""

    def __init__(self, *answers: bytes) -> None:
        self._socket, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sequence = 0
        for answer in answers:
            self.kernel.send(answer)

    def close(self) -> None:
        super().close()
        self.kernel.close()


def message(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    data = pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return data + b"\0" * (-len(data) & 3)


def an_error(sequence: int, number: int, told: str = "") -> bytes:
    body = pack("=i", -number) + pack("=IHHII", 16, 24, 0, sequence, 0)
    return message(2, sequence, body + (attribute(1, told.encode() + b"\0") if told else b""), 0x300 if told else 0x100)


def done(sequence: int, number: int = 0, flags: int = 0) -> bytes:
    return message(3, sequence, pack("=i", -number), flags)


def test_attributes_are_padded_and_read_back() -> None:
    data = attribute(1, b"abc") + nested(2, attribute(3, b"\1"))
    assert len(data) % 4 == 0
    assert attributes(data)[1] == b"abc"
    assert attributes(attributes(data)[2]) == {3: b"\1"}
    assert text_of(b"wg0\0\0") == "wg0"


@pytest.mark.parametrize("data", [b"", b"\4", b"\0\0\1\0", b"\3\0\1\0"])
def test_a_short_attribute_ends_the_list(data: bytes) -> None:
    assert list(each_attribute(data)) == []


def test_errors_of_a_batch_are_told_by_position() -> None:
    with Kernel(
        an_error(2, errno.EEXIST), an_error(4, errno.EINVAL, "Nexthop id does not exist"), an_error(5, 0)
    ) as netlink:
        errors = netlink.batch([(24, 0, b"body")] * 5)
    assert {position: error.errno for position, error in errors.items()} == {1: errno.EEXIST, 3: errno.EINVAL}
    assert "Nexthop id does not exist" in str(errors[3])


def test_only_the_last_of_a_batch_asks_for_an_acknowledgement() -> None:
    with Kernel(an_error(3, 0)) as netlink:
        assert netlink.batch([(24, 0, b"")] * 3) == {}
        sent = netlink.kernel.recv(4096)
    assert [sent[16 * i + 6] for i in range(3)] == [1, 1, 5]


def test_a_long_batch_goes_in_several_pieces() -> None:
    with Kernel(an_error(1024, 0), an_error(1500, errno.EPERM), an_error(2000, 0)) as netlink:
        errors = netlink.batch([(24, 0, b"")] * 2000)
    assert list(errors) == [1499]
    assert netlink.batch([]) == {}


def test_a_dump_spans_datagrams_and_skips_what_is_left_of_another() -> None:
    with Kernel(message(24, 99, b"old!"), message(24, 1, b"one!") + message(24, 1, b"two!"), done(1)) as netlink:
        assert netlink.dump(26, b"") == [b"one!", b"two!"]


def test_a_dump_that_was_interrupted_is_asked_again() -> None:
    torn = message(24, 1, b"torn", 0x10) + done(1)
    with Kernel(torn, message(24, 2, b"good") + done(2)) as netlink:
        assert netlink.dump(26, b"") == [b"good"]


def test_a_dump_that_never_settles_is_an_error() -> None:
    with Kernel(*(done(sequence, flags=0x10) for sequence in range(1, 9))) as netlink, pytest.raises(OSError) as raised:
        netlink.dump(26, b"")
    assert raised.value.errno == errno.EAGAIN


@pytest.mark.parametrize("answer", [an_error(1, errno.EOPNOTSUPP), done(1, errno.EOPNOTSUPP)])
def test_a_dump_that_is_refused_is_an_error(answer: bytes) -> None:
    with Kernel(answer) as netlink, pytest.raises(OSError) as raised:
        netlink.dump(26, b"")
    assert raised.value.errno == errno.EOPNOTSUPP


def test_a_request_returns_what_comes_before_its_acknowledgement() -> None:
    with Kernel(message(16, 1, b"info"), an_error(1, 0)) as netlink:
        assert netlink.request((18, 0, b"")) == [b"info"]
