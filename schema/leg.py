"""By which leg of a bond a packet leaves, as the kernel's `layer3+4` decides.

The hash is `bond_xmit_hash` of drivers/net/bonding/bond_main.c, on hosts whose integers are little-endian (x86, arm64):
ports and addresses are read as they lie in memory, in network order. Both ports go into it by exclusive or, so tunnels
whose ports rise together at both ends all leave by one leg. Many switches do alike, with seeds of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from schema.ip import parse_address


def _words(address: str) -> int:
    """An address folded to 32 bits as it lies in memory (`ipv6_addr_hash` of include/net/ipv6.h)."""
    version, value = parse_address(address)
    data = value.to_bytes(4 if version == 4 else 16, "big")
    folded = 0
    for start in range(0, len(data), 4):
        folded ^= int.from_bytes(data[start : start + 4], "little")
    return folded


@dataclass(frozen=True, slots=True)
class Sender:
    """One end of a link: a bond with so many legs, and the addresses of the packets that it sends."""

    legs: int
    folded: int
    """Both addresses, in 32 bits."""

    @classmethod
    def of(cls, source: str, destination: str, legs: int) -> Sender:
        """Addresses of one family, in text."""
        return cls(legs, _words(source) ^ _words(destination))

    def hash(self, source_port: int, destination_port: int) -> int:
        value = _swapped(source_port) | _swapped(destination_port) << 16
        value ^= self.folded
        value ^= value >> 16
        value ^= value >> 8
        return value >> 1

    def leg(self, source_port: int, destination_port: int) -> int:
        return self.hash(source_port, destination_port) % self.legs


def _swapped(port: int) -> int:
    """A port in network order, read by a little-endian host."""
    return port >> 8 | (port & 0xFF) << 8
