"""Which leg of a bond a packet leaves by, according to the kernel's `layer3+4` hash.

The hash is `bond_xmit_hash` of drivers/net/bonding/bond_main.c on little-endian hosts (x86, arm64). It reads ports and
addresses as they lie in memory, in network order. Both ports are combined by exclusive or. If the ports of tunnels
increase together at both ends, all of these tunnels therefore leave by one leg. Many switches use a similar hash with
their own seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from schema.ip import parse_address


def _words(address: str) -> int:
    """An address in text -> 32 bits, folded as it lies in memory (`ipv6_addr_hash` of include/net/ipv6.h)."""
    version, value = parse_address(address)
    data = value.to_bytes(4 if version == 4 else 16, "big")
    folded = 0
    for start in range(0, len(data), 4):
        folded ^= int.from_bytes(data[start : start + 4], "little")
    return folded


@dataclass(frozen=True, slots=True)
class Sender:
    """One end of a link: the number of legs of its bond, and the addresses of the packets that it sends."""

    legs: int
    folded: int
    """The exclusive or of both addresses, folded to 32 bits."""

    @classmethod
    def of(cls, source: str, destination: str, legs: int) -> Sender:
        """Takes two addresses of one family in text. Raises ValueError."""
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
    """A port in network order, as a little-endian host reads it."""
    return port >> 8 | (port & 0xFF) << 8
