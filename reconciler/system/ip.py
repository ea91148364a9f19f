"""Converts addresses and prefixes between text and bytes, quickly."""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from schema.plan.base import Family

FAMILIES: dict[Family, int] = {"inet": int(AF_INET), "inet6": int(AF_INET6)}
NAMES: dict[int, Family] = {number: name for name, number in FAMILIES.items()}


def pack(address: str) -> bytes:
    """Four or sixteen bytes in network order. Raises OSError if the text is no address."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


@lru_cache(maxsize=1 << 16)
def pack_prefix(prefix: str) -> tuple[int, bytes, int]:
    """Family, address bytes and length of `address/length`."""
    address, _, length = prefix.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    return int(family), inet_pton(family, address), int(length)


def unpack(data: bytes) -> str:
    return inet_ntop(AF_INET if len(data) == 4 else AF_INET6, data)
