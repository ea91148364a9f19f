"""The only access to the kernel's netlink: sockets, packing, batches, dumps, and errors as OSError.

Formats: netlink(7), rtnetlink(7), linux/netlink.h, linux/genetlink.h. Integers are in host order; attributes and
messages are aligned to four bytes.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from struct import Struct
from types import TracebackType
from typing import Self

Message = tuple[int, int, bytes]
"""Type, flags (without NLM_F_REQUEST and NLM_F_ACK), and body."""

ROUTE = 0
NETFILTER = 12
GENERIC = 16

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300

_CAPPED = 0x100
_ACK_TLVS = 0x200
_ERROR = 2
_DONE = 3
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_CAP_ACK = 10
_EXT_ACK = 11
_GET_STRICT_CHK = 12
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32

_HEADER = Struct("=IHHII")
_LENGTH_TYPE_FLAGS = Struct("=IHH")
_ATTRIBUTE = Struct("=HH")
_INT = Struct("=i")
U8 = Struct("=B")
U16 = Struct("=H")
U32 = Struct("=I")
_U32_ATTRIBUTE = Struct("=HHI")

_BATCH_BYTES = 64 * 1024
_BATCH_MESSAGES = 1024
_BUFFER = 8 * 1024 * 1024
"""Large enough for a batch in which every message fails, and for floods of events."""
_RECEIVE = 128 * 1024
_DUMP_TRIES = 8
_TYPE_MASK = 0x3FFF
"""Excludes NLA_F_NESTED and NLA_F_NET_BYTEORDER."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute (struct rtattr, struct nlattr), padded."""
    length = len(payload) + 4
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length & 3)


def attribute_u32(kind: int, value: int) -> bytes:
    return _U32_ATTRIBUTE.pack(8, kind, value)


def attribute_text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


NESTED = 0x8000
"""NLA_F_NESTED: the attribute contains attributes."""


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that contains attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def each_attribute(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from `offset` on, in order; stops at data too short for an attribute."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Like `each_attribute`, by type; the last of a type wins."""
    return dict(each_attribute(data, offset))


def text_of(payload: bytes) -> str:
    """A zero-terminated string."""
    return payload.split(b"\0", 1)[0].decode(errors="replace")


class DumpInterruptedError(Exception):
    """The kernel's state changed during the dump."""


class Netlink:
    """One socket in the network namespace of the thread that creates it. Not for two threads at once."""

    def __init__(self, protocol: int = ROUTE, groups: Sequence[int] = ()) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHK):
                self._option(_SOL_NETLINK, option, 1)
            for force, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
                if not self._option(socket.SOL_SOCKET, force, _BUFFER):
                    self._option(socket.SOL_SOCKET, plain, _BUFFER)
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError:
            self._socket.close()
            raise

    def _option(self, level: int, option: int, value: int) -> bool:
        """Set an option that an old kernel may lack or that needs CAP_NET_ADMIN. Returns whether it was set."""
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        # Several drivers share a socket and none owns it: it is closed with the last one.
        if hasattr(self, "_socket"):
            self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All messages of the response to a dump request, without headers. Raises OSError.

        A dump during which the kernel's state changed is repeated, a few times; then EAGAIN is raised.
        """
        for _ in range(_DUMP_TRIES):
            try:
                return self._dump_once(kind, body)
            except DumpInterruptedError:
                continue
        raise OSError(errno.EAGAIN, "the kernel's state changes faster than it can be read")

    def _dump_once(self, kind: int, body: bytes) -> list[bytes]:
        sequence = self._send([(kind, NLM_F_DUMP, body)])
        found: list[bytes] = []
        append = found.append
        header = _LENGTH_TYPE_FLAGS.unpack_from
        interrupted = 0
        while True:
            data = self._receive()
            offset, end = 0, len(data)
            if U32.unpack_from(data, 8)[0] != sequence:
                continue  # the rest of an abandoned dump
            while offset < end:
                length, kind, flags = header(data, offset)
                interrupted |= flags
                if kind > _DONE:
                    append(data[offset + 16 : offset + length])
                elif kind in (_DONE, _ERROR):
                    self._raise_if_error(data[offset : offset + length], flags)
                    if interrupted & NLM_F_DUMP_INTR:
                        raise DumpInterruptedError
                    return found
                offset += (length + 3) & ~3

    def request(self, message: Message) -> list[bytes]:
        """Send one message. Returns the responses without headers. Raises OSError."""
        kind, flags, body = message
        sequence = self._send([(kind, flags | NLM_F_ACK, body)])
        found: list[bytes] = []
        while True:
            for got, kind, flags, data in self._messages():
                if got != sequence:
                    continue
                if kind == _ERROR:
                    self._raise_if_error(data, flags)
                    return found
                found.append(data[16:])

    def batch(self, messages: Sequence[Message]) -> dict[int, OSError]:
        """Send messages in their order. Returns the errors by the position of their messages.

        Only the last message of each batch requests an acknowledgement: errors are always sent, and the kernel
        processes a batch in order. This is five times as fast as one acknowledgement per message.
        """
        errors: dict[int, OSError] = {}
        start, size = 0, 0
        for end, (_, _, body) in enumerate(messages):
            size += len(body) + 20
            if size > _BATCH_BYTES or end - start >= _BATCH_MESSAGES:
                self._send_batch(messages[start:end], start, errors)
                start, size = end, len(body) + 20
        if start < len(messages):
            self._send_batch(messages[start:], start, errors)
        return errors

    def _send_batch(self, messages: Sequence[Message], base: int, errors: dict[int, OSError]) -> None:
        if not messages:
            return
        kind, flags, body = messages[-1]
        last = self._send([*messages[:-1], (kind, flags | NLM_F_ACK, body)])
        first = last - len(messages) + 1
        while True:
            for got, kind, flags, data in self._messages():
                if kind != _ERROR or not first <= got <= last:
                    continue
                error = self._error(data, flags)
                if error is not None:
                    errors[base + got - first] = error
                if got == last:
                    return

    def events(self, most: int) -> tuple[list[tuple[int, bytes]], bool]:
        """The waiting events as (type, body), without blocking, from at most `most` datagrams, and whether more may be
        waiting. Raises OSError, ENOBUFS if some were lost."""
        found: list[tuple[int, bytes]] = []
        for _ in range(most):
            try:
                data = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found, False
            found += ((kind, message[16:]) for _, kind, _, message in _split(data))
        return found, True

    def _send(self, messages: Sequence[Message]) -> int:
        """Number the messages and send them at once. Returns the last number."""
        sequence = self._sequence
        if sequence > 0xFF000000:
            sequence = 0
        header = _HEADER.pack
        parts: list[bytes] = []
        append = parts.append
        for kind, flags, body in messages:
            sequence += 1
            append(header(16 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0))
            append(body)
        self._sequence = sequence
        self._socket.send(b"".join(parts))
        return sequence

    def _receive(self) -> bytes:
        data, _, flags, _ = self._socket.recvmsg(_RECEIVE)
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, "a netlink answer was longer than it may be")
        return data

    def _messages(self) -> Iterator[tuple[int, int, int, bytes]]:
        return _split(self._receive())

    @staticmethod
    def _error(data: bytes, flags: int) -> OSError | None:
        """The error in an NLMSG_ERROR or NLMSG_DONE message (with its header); None for success."""
        if len(data) < 20:
            return None
        code = -_INT.unpack_from(data, 16)[0]
        if code <= 0:
            return None
        text = os.strerror(code)
        if flags & _ACK_TLVS and len(data) >= 36:
            length = 16 if flags & _CAPPED else U32.unpack_from(data, 20)[0]
            told = attributes(data, 20 + ((length + 3) & ~3)).get(1)
            if told:
                text = f"{text}: {text_of(told)}"
        return OSError(code, text)

    @classmethod
    def _raise_if_error(cls, data: bytes, flags: int) -> None:
        error = cls._error(data, flags)
        if error is not None:
            raise error


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in a datagram: sequence number, type, flags, and the whole message."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        yield sequence, kind, flags, data[offset : offset + length]
        offset += (length + 3) & ~3
