"""Routes over rtnetlink (rtnetlink(7), linux/rtnetlink.h), in batches.

An unchanged route has the same bytes in every dump, so decoded routes are cached by these bytes.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import replace
from socket import inet_pton
from struct import Struct
from typing import Any, cast

from reconciler.kinds.base import Failure, Observed
from reconciler.system import multipath
from reconciler.system.failure import send
from reconciler.system.interfaces import Interfaces
from reconciler.system.ip import pack, unpack
from reconciler.system.multipath import NexthopTable
from reconciler.system.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    U16,
    U32,
    Message,
    Netlink,
    attribute,
    attribute_u32,
    attributes,
)
from schema.plan import PROTOCOL, Change, Route, family_of

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_MULTIPATH, RTA_TABLE, RTA_VIA, RTA_NH_ID = 9, 15, 18, 30
TYPES = {"unicast": 1, "blackhole": 6, "unreachable": 7}
TYPE_NAMES = {number: name for name, number in TYPES.items()} | {8: "prohibit", 9: "throw", 10: "nat"}
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_NOWHERE = 0, 253, 255
RTM_F_CLONED = 0x200
LOCAL_TABLE = 255
AF_INET, AF_INET6 = 2, 10

RTMSG = Struct("=BBBBBBBBI")
"""struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
_KEY4 = Struct("=HH4sHHIHHI")
_KEY6 = Struct("=HH16sHHIHHI")
"""RTA_DST, RTA_TABLE and RTA_PRIORITY, each with length and type, in one call: there may be 10,000s of routes."""


def _place(route: Route) -> tuple[int, int, bytes]:
    """Family, prefix length, and the attributes of a route's key."""
    address, _, length = route.dst.partition("/")
    if ":" in address:
        key = _KEY6.pack(
            20, RTA_DST, inet_pton(AF_INET6, address), 8, RTA_TABLE, route.table, 8, RTA_PRIORITY, route.metric
        )
        return AF_INET6, int(length), key
    key = _KEY4.pack(8, RTA_DST, inet_pton(AF_INET, address), 8, RTA_TABLE, route.table, 8, RTA_PRIORITY, route.metric)
    return AF_INET, int(length), key


def encode(route: Route, indices: dict[str, int], nexthops: NexthopTable | None = None) -> bytes:
    """The body that creates or replaces a route. Raises OSError (ENODEV) if its interface is missing.

    `nexthops` are those that the kernel has no objects for.
    """
    family, length, parts = _place(route)
    scope = SCOPE_UNIVERSE
    if route.nhid is not None and nexthops is not None and nexthops.in_use:
        parts += attribute(RTA_MULTIPATH, nexthops.encode(route.nhid, indices))
    elif route.nhid is not None:
        parts += attribute_u32(RTA_NH_ID, route.nhid)
    elif route.dev is not None:
        index = indices.get(route.dev)
        if index is None:
            raise OSError(errno.ENODEV, f"no interface {route.dev}")
        parts += attribute_u32(RTA_OIF, index)
        if route.via is None and family == AF_INET:
            scope = SCOPE_LINK
    if route.via is not None:
        parts += _gateway(pack(route.via), family)
    if route.src is not None:
        parts += attribute(RTA_PREFSRC, pack(route.src))
    table = route.table if route.table < 256 else 0
    return RTMSG.pack(family, length, 0, 0, table, PROTOCOL, scope, TYPES[route.type], 0) + parts


def _gateway(address: bytes, family: int) -> bytes:
    """RTA_GATEWAY, or RTA_VIA for an IPv4 route through an IPv6 router."""
    if (len(address) == 4) == (family == AF_INET):
        return attribute(RTA_GATEWAY, address)
    return attribute(RTA_VIA, U16.pack(AF_INET if len(address) == 4 else AF_INET6) + address)


def encode_delete(route: Route) -> bytes:
    """The body that deletes a route of ours by its key. The kernel skips routes of another protocol."""
    family, length, parts = _place(route)
    table = route.table if route.table < 256 else 0
    return RTMSG.pack(family, length, 0, 0, table, PROTOCOL, SCOPE_NOWHERE, 0, 0) + parts


def decode(body: bytes, names: dict[int, str]) -> Observed[Route] | None:
    """A route from its RTM_NEWROUTE body; None for the kernel's own (local, broadcast, multicast, cached).

    Foreign routes may have properties that a `Route` cannot express (metric 0, several nexthops): they are built
    without validation, from what it can express. Raises KeyError if the interface is not in `names`.
    """
    family, length, _, _, table, protocol, _, number, flags = RTMSG.unpack_from(body)
    kind = TYPE_NAMES.get(number)
    if kind is None or flags & RTM_F_CLONED or table == LOCAL_TABLE or family not in (AF_INET, AF_INET6):
        return None
    known = attributes(body, RTMSG.size)
    dst = unpack(known[RTA_DST]) if RTA_DST in known else "0.0.0.0" if family == AF_INET else "::"
    table = _number(known, RTA_TABLE, table)
    metric = _number(known, RTA_PRIORITY, 0)
    dev = names[_number(known, RTA_OIF, 0)] if RTA_OIF in known else None
    via = _via(known)
    src = unpack(known[RTA_PREFSRC]) if RTA_PREFSRC in known else None
    nhid = _number(known, RTA_NH_ID, 0) if RTA_NH_ID in known else None
    if nhid is not None or kind != "unicast":
        dev = via = None  # the kernel repeats the nexthop object's data here, and lo for IPv6 blackholes
    route = Route.model_construct(
        None, kind="route", table=table, dst=f"{dst}/{length}", metric=metric, type=cast(Any, kind),
        dev=dev, via=via, nhid=nhid, src=src,
    )  # fmt: skip
    return Observed(route, protocol)


def _number(known: Mapping[int, bytes], attribute: int, default: int) -> int:
    return int(U32.unpack(known[attribute])[0]) if attribute in known else default


def _via(known: Mapping[int, bytes]) -> str | None:
    if RTA_GATEWAY in known:
        return unpack(known[RTA_GATEWAY])
    return unpack(known[RTA_VIA][2:]) if RTA_VIA in known else None


class RouteDriver:
    """Routes of all tables."""

    def __init__(self, netlink: Netlink, nexthops: NexthopTable | None = None) -> None:
        """`nexthops` are shared with the nexthop driver, for a kernel without objects for them."""
        self._netlink = netlink
        self._nexthops = nexthops or NexthopTable()
        self._version = 0
        self._interfaces = Interfaces(netlink)
        self._known: dict[bytes, Observed[Route] | None] = {}

    def observe(self) -> list[Observed[Route]]:
        if self._interfaces.refresh() or self._version != self._nexthops.version:
            self._version = self._nexthops.version
            self._known.clear()
        bodies: list[bytes] = []
        for family in (AF_INET, AF_INET6):
            bodies += self._netlink.dump(RTM_GETROUTE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        known = self._known
        try:
            found = [known[body] for body in bodies]
        except KeyError:
            found = [self._decode(body) for body in bodies]
        if len(known) > 2 * len(bodies) + 1024:
            self._known = {body: known[body] for body in bodies if body in known}
        return [route for route in found if route is not None]

    def _decode(self, body: bytes) -> Observed[Route] | None:
        if body in self._known:
            return self._known[body]
        try:
            route = self._known[body] = self._over_kept(decode(body, self._interfaces.names), body)
        except KeyError:
            # The interface came or went during the dump: the route counts as foreign, and the next reading corrects
            # that.
            route = None
        return route

    def _over_kept(self, observed: Observed[Route] | None, body: bytes) -> Observed[Route] | None:
        """A route of ours over nexthops without kernel objects, with their number."""
        if observed is None or not self._nexthops.in_use or observed.marker != PROTOCOL:
            return observed
        route, indices = observed.resource, self._interfaces.indices
        payload = attributes(body, RTMSG.size).get(RTA_MULTIPATH)
        ways = (
            multipath.decode(payload)
            if payload
            else frozenset({(indices.get(route.dev or "", 0), multipath.gateway_of(route.via), 1)})
        )
        number = self._nexthops.find(family_of(route.dst), ways, indices)
        if number is None:
            return observed
        return replace(observed, resource=route.model_copy(update={"nhid": number, "dev": None, "via": None}))

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        """A create never replaces a route; a change replaces ours with the same table, prefix and metric."""
        self._interfaces.refresh()
        indices = self._interfaces.indices
        failures, exist = send(self._netlink, changes, lambda change: _message(change, indices, self._nexthops))
        return failures + self._differing(exist)

    def _differing(self, exist: list[Failure]) -> list[Failure]:
        """The failed creations for which a different route exists."""
        if not exist:
            return []
        there = {observed.resource for observed in self.observe()}
        return [failed for failed in exist if failed.change.after not in there]


def _message(change: Change, indices: dict[str, int], nexthops: NexthopTable) -> Message:
    if change.after is None:
        assert isinstance(change.before, Route)
        return RTM_DELROUTE, 0, encode_delete(change.before)
    assert isinstance(change.after, Route)
    flags = NLM_F_CREATE | NLM_F_EXCL if change.before is None else NLM_F_CREATE | NLM_F_REPLACE
    return RTM_NEWROUTE, flags, encode(change.after, indices, nexthops)
