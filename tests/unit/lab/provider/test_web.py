from __future__ import annotations

import socket

import pytest

from lab.provider.web import resolved

NAMES, NAMES6 = {"whoami.example": "198.19.230.2"}, {"whoami.example": "2001:db8:fe:66::2"}


def query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\x12\x34\x01\0\0\1" + bytes(6) + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1"


def test_a_name_is_resolved_whatever_its_case() -> None:
    answer = resolved(query("WhoAmI.example", 1), NAMES, NAMES6)
    assert answer[:2] == b"\x12\x34" and answer[3] & 15 == 0
    assert answer[6:8] == b"\0\1" and answer[-4:] == socket.inet_aton("198.19.230.2")


def test_a_name_has_an_address_of_each_family() -> None:
    answer = resolved(query("whoami.example", 28), NAMES, NAMES6)
    assert answer[6:8] == b"\0\1" and answer[-16:] == socket.inet_pton(socket.AF_INET6, "2001:db8:fe:66::2")


def test_another_kind_of_record_is_not_there_and_another_name_does_not_exist() -> None:
    assert resolved(query("whoami.example", 15), NAMES, NAMES6)[3:8] == b"\x80\0\1\0\0"
    assert resolved(query("whoami.example", 28), NAMES, {})[3:8] == b"\x80\0\1\0\0"
    assert resolved(query("leak.example", 1), NAMES, NAMES6)[3] & 15 == 3


def test_what_is_no_query_has_no_answer() -> None:
    with pytest.raises(IndexError):
        resolved(b"\x12\x34", NAMES, NAMES6)
