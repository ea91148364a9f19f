"""Nexthop objects for a kernel without them (Linux before 5.3): stored here, and expanded in each route over them.

The nexthop driver stores them. The route driver writes `RTA_MULTIPATH` for a plan's `nhid`, and finds the number again
from a route's content. After a restart of the agent nothing is stored, so each route over a group is set once more.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from struct import Struct

from reconciler.system.ip import pack, unpack
from reconciler.system.netlink import attribute, attributes
from schema.plan import Nexthop
from schema.plan.base import Family

RTA_GATEWAY = 5
FAR_END = "fe80::ffff"
"""IPv6 accepts several nexthops only with gateways (net/ipv6/route.c). A tunnel has one far end and does not resolve
neighbours, so any address of its link works."""
_HOP = Struct("=HBBi")
"""struct rtnexthop: length with attributes, flags, weight minus one, interface."""
NextHops = frozenset[tuple[int, str | None, int]]
"""Interface, gateway, weight."""


class NexthopTable:
    """The nexthops of one host, if the kernel has no objects for them."""

    def __init__(self) -> None:
        self.in_use = False
        self.by_id: dict[int, Nexthop] = {}
        self.version = 0
        """Counts changes, because the meaning of a route's bytes depends on the stored nexthops."""

    def put(self, nexthop: Nexthop) -> None:
        self.by_id[nexthop.id] = nexthop
        self.version += 1

    def drop(self, number: int) -> None:
        self.by_id.pop(number, None)
        self.version += 1

    def encode(self, number: int, indices: Mapping[str, int]) -> bytes:
        """The members of a nexthop as the payload of RTA_MULTIPATH. Raises OSError (EINVAL, ENODEV)."""
        found = b""
        gateway = FAR_END if self._family(self.by_id.get(number)) == "inet6" else None
        for index, via, weight in sorted(self._ways(number, indices), key=lambda way: way[0]):
            parts = attribute(RTA_GATEWAY, pack(via or gateway or "")) if via or gateway else b""
            found += _HOP.pack(_HOP.size + len(parts), 0, weight - 1, index) + parts
        return found

    def find(self, family: Family, ways: NextHops, indices: Mapping[str, int]) -> int | None:
        """The group of a family with these members; None if there is none."""
        for number, nexthop in self.by_id.items():
            try:
                if nexthop.group and self._family(nexthop) == family and self._ways(number, indices) == ways:
                    return number
            except OSError:
                continue
        return None

    def _family(self, nexthop: Nexthop | None) -> Family | None:
        member = self.by_id.get(nexthop.group[0].id) if nexthop and nexthop.group else nexthop
        return member.family if member else None

    def _ways(self, number: int, indices: Mapping[str, int]) -> NextHops:
        nexthop = self.by_id.get(number)
        if nexthop is None:
            raise OSError(errno.EINVAL, f"no nexthop {number}")
        members = [(self.by_id.get(one.id), one.weight) for one in nexthop.group] or [(nexthop, 1)]
        found = set()
        for member, weight in members:
            index = indices.get(member.dev or "") if member else None
            if member is None or index is None:
                raise OSError(errno.ENODEV, f"a way of nexthop {number} is not there")
            # The kernel stores no weight for a single nexthop.
            found.add((index, member.via, weight if len(members) > 1 else 1))
        return frozenset(found)


def gateway_of(via: str | None) -> str | None:
    """The gateway in the plan, from the gateway in the kernel."""
    return None if via == FAR_END else via


def decode(payload: bytes) -> NextHops:
    """The nexthops of an RTA_MULTIPATH."""
    found, offset = set(), 0
    while offset + _HOP.size <= len(payload):
        length, _, weight, index = _HOP.unpack_from(payload, offset)
        if length < _HOP.size:
            break
        gateway = attributes(payload[offset : offset + length], _HOP.size).get(RTA_GATEWAY)
        found.add((index, gateway_of(unpack(gateway) if gateway else None), weight + 1))
        offset += (length + 3) & ~3
    return frozenset(found)
