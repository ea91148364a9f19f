"""Asks a DNS server (RFC 1035) for a name's address, through a given interface whatever the routes say."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from ipaddress import ip_address

from schema.plan.base import Family

KINDS: dict[Family, int] = {"inet": 1, "inet6": 28}
LENGTHS: dict[Family, int] = {"inet": 4, "inet6": 16}
_HEAD, _RECORD = struct.Struct("!2sHHHHH"), struct.Struct("!HHIH")
_ASKED, _INTERNET = 0x0100, 1
_ANSWERED, _MEANING = 0x8000, 0xF80F
"""A response to a query, without an error."""


def ask(server: str, name: str, family: Family, dev: str, seconds: float) -> str:
    """An address of a name, asked for at most `seconds`. Raises OSError if there is none."""
    try:
        asked = query(os.urandom(2), name, family)
    except ValueError as error:
        raise OSError(str(error)) from None
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
        connection.connect((server, 53))
        connection.send(asked)
        data = b""
        while data[:2] != asked[:2]:
            connection.settimeout(max(0.001, end - time.monotonic()))
            data = connection.recv(1 << 12)
    found = answer(asked, data, family)
    if found is None:
        raise OSError(f"{server} knows no such address of {name}")
    return found


def query(number: bytes, name: str, family: Family) -> bytes:
    """A query for the addresses of a name in one family; `number` has two bytes. Raises ValueError for a bad name."""
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(re.fullmatch(r"[!-~]{1,63}", label) for label in labels):
        raise ValueError(f"{name!r} is no name")
    question = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    return _HEAD.pack(number, _ASKED, 1, 0, 0, 0) + question + struct.pack("!HH", KINDS[family], _INTERNET)


def answer(asked: bytes, data: bytes, family: Family) -> str | None:
    """The first address in a response to exactly this query; None if it has none or is no such response."""
    question = asked[_HEAD.size :]
    try:
        number, flags, questions, records, _, _ = _HEAD.unpack_from(data)
        position = _HEAD.size + len(question)
        same = data[_HEAD.size : position].lower() == question.lower()
        if number != asked[:2] or flags & _MEANING != _ANSWERED or questions != 1 or not same:
            return None
        # Aliases precede their targets, so the owner of the address need not be read.
        for _ in range(records):
            position = _past_name(data, position)
            kind, _, _, length = _RECORD.unpack_from(data, position)
            position += _RECORD.size
            if kind == KINDS[family] and length == LENGTHS[family] == len(data[position : position + length]):
                return str(ip_address(data[position : position + length]))
            position += length
    except (struct.error, IndexError):
        pass  # the response is truncated
    return None


def _past_name(data: bytes, position: int) -> int:
    """The position after a name, which may end with a pointer. Raises IndexError."""
    while size := data[position]:
        if size >= 0xC0:
            return position + 2
        position += 1 + size
    return position + 1
