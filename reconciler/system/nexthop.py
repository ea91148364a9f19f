"""Nexthop objects and groups over rtnetlink (linux/nexthop.h)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from struct import Struct

from reconciler.kinds.base import Failure, Observed
from reconciler.system.failure import send
from reconciler.system.interfaces import Interfaces
from reconciler.system.ip import FAMILIES, NAMES, pack, unpack
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
    nested,
)
from schema.plan import PROTOCOL, Change, Nexthop, Resource, family_of
from schema.plan.nexthop import Member, Resilient

RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106
NHA_ID, NHA_GROUP, NHA_GROUP_TYPE, NHA_OIF, NHA_GATEWAY, NHA_RES_GROUP = 1, 2, 3, 5, 6, 12
NHA_RES_GROUP_BUCKETS, NHA_RES_GROUP_IDLE_TIMER, NHA_RES_GROUP_UNBALANCED_TIMER = 1, 2, 3
RESILIENT = 1
USER_HZ = 100
"""The kernel's timer units per second in its interface to programs."""

NHMSG = Struct("=BBBBI")
"""struct nhmsg: family, scope, protocol, reserved, flags."""
GROUP_ENTRY = Struct("=IBBH")
"""struct nexthop_grp: id, weight minus one, the high byte of weights beyond 256 (kernel 6.12), reserved."""


def encode(nexthop: Nexthop, indices: dict[str, int]) -> bytes:
    """The body that creates or replaces a nexthop. Raises OSError (ENODEV) if its interface is missing."""
    parts = attribute_u32(NHA_ID, nexthop.id)
    if nexthop.group:
        entries = b"".join(GROUP_ENTRY.pack(m.id, m.weight - 1, 0, 0) for m in nexthop.group)
        return NHMSG.pack(0, 0, PROTOCOL, 0, 0) + parts + attribute(NHA_GROUP, entries) + _resilience(nexthop.resilient)
    assert nexthop.dev is not None
    index = indices.get(nexthop.dev)
    if index is None:
        raise OSError(errno.ENODEV, f"no interface {nexthop.dev}")
    parts += attribute_u32(NHA_OIF, index)
    family = nexthop.family or (family_of(nexthop.via) if nexthop.via else "inet")
    if nexthop.via is not None:
        parts += attribute(NHA_GATEWAY, pack(nexthop.via))
    return NHMSG.pack(FAMILIES[family], 0, PROTOCOL, 0, 0) + parts


def _resilience(resilient: Resilient | None) -> bytes:
    if resilient is None:
        return b""
    timers = attribute(NHA_RES_GROUP_BUCKETS, U16.pack(resilient.buckets))
    timers += attribute_u32(NHA_RES_GROUP_IDLE_TIMER, resilient.idle_timer * USER_HZ)
    timers += attribute_u32(NHA_RES_GROUP_UNBALANCED_TIMER, resilient.unbalanced_timer * USER_HZ)
    return attribute(NHA_GROUP_TYPE, U16.pack(RESILIENT)) + nested(NHA_RES_GROUP, timers)


def encode_delete(nexthop: Nexthop) -> bytes:
    return NHMSG.pack(0, 0, 0, 0, 0) + attribute_u32(NHA_ID, nexthop.id)


def decode(body: bytes, names: dict[int, str]) -> Observed[Nexthop]:
    """A nexthop from its RTM_NEWNEXTHOP body. Foreign types (blackhole, fdb) are reported as far as a Nexthop can."""
    family, _, protocol, _, _ = NHMSG.unpack_from(body)
    found = attributes(body, NHMSG.size)
    oif, gateway = found.get(NHA_OIF), found.get(NHA_GATEWAY)
    group = tuple(
        Member.model_construct(None, id=number, weight=(low | high << 8) + 1)
        for number, low, high, _ in GROUP_ENTRY.iter_unpack(found.get(NHA_GROUP, b""))
    )
    resource = Nexthop.model_construct(
        None,
        kind="nexthop",
        id=U32.unpack(found[NHA_ID])[0],
        family=None if group else NAMES.get(family),
        dev=names.get(U32.unpack(oif)[0]) if oif else None,
        via=unpack(gateway) if gateway else None,
        group=group,
        resilient=_resilient(found.get(NHA_RES_GROUP)),
    )
    return Observed(resource, protocol)


def _resilient(payload: bytes | None) -> Resilient | None:
    if payload is None:
        return None
    found = attributes(payload)
    return Resilient.model_construct(
        None,
        buckets=U16.unpack(found[NHA_RES_GROUP_BUCKETS])[0],
        idle_timer=U32.unpack(found[NHA_RES_GROUP_IDLE_TIMER])[0] // USER_HZ,
        unbalanced_timer=U32.unpack(found[NHA_RES_GROUP_UNBALANCED_TIMER])[0] // USER_HZ,
    )


class NexthopDriver:
    """Nexthop objects. On a kernel without them (before 5.3) they are stored in the table that the route driver uses.

    On a kernel without resilient groups (before 5.13) groups are plain, but are reported as they were requested.
    """

    def __init__(self, netlink: Netlink, table: NexthopTable | None = None) -> None:
        self._netlink = netlink
        self._table = table or NexthopTable()
        self._interfaces = Interfaces(netlink)
        self._plain: dict[int, Resilient] = {}
        """Groups that the kernel could only create as plain ones, and their wanted form."""

    def observe(self) -> list[Observed[Nexthop]]:
        self._interfaces.refresh()
        try:
            bodies = self._netlink.dump(RTM_GETNEXTHOP, NHMSG.pack(0, 0, 0, 0, 0))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._table.in_use = True
            return [Observed(nexthop, PROTOCOL) for nexthop in self._table.by_id.values()]
        return [self._as_wanted(decode(body, self._interfaces.names)) for body in bodies]

    def _as_wanted(self, observed: Observed[Nexthop]) -> Observed[Nexthop]:
        wanted = self._plain.get(observed.resource.id)
        if wanted is None or observed.marker != PROTOCOL:
            return observed
        return replace(observed, resource=observed.resource.model_copy(update={"resilient": wanted}))

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        """Apply in the given order, so that members exist before their groups.

        Deletion does not compare the protocol, so the driver looks up nexthops that are foreign now, and skips them.
        """
        there = {o.resource.id: o for o in self.observe()} if any(c.after is None for c in changes) else {}
        if self._table.in_use:
            return self._keep(changes)
        self._interfaces.refresh()

        def pack_one(change: Change) -> Message | None:
            if change.after is None:
                assert isinstance(change.before, Nexthop)
                seen = there.get(change.before.id)
                if seen is None or seen.marker != PROTOCOL:
                    return None
            return _message(change, self._interfaces.indices)

        failures, exist = send(self._netlink, changes, pack_one)
        failures = [failed for failed in failures if not self._made_plain(failed)]
        return failures + self._differing(exist)

    def _made_plain(self, failed: Failure) -> bool:
        """Whether a refused resilient group could be created as a plain one."""
        wanted = failed.change.after
        if failed.code != "EINVAL" or not isinstance(wanted, Nexthop) or wanted.resilient is None:
            return False
        before = failed.change.before
        if isinstance(before, Nexthop) and before.resilient is not None and before.id not in self._plain:
            return False  # this kernel has resilient groups, and refused the change itself
        plain = Change(before, wanted.model_copy(update={"resilient": None}))
        if send(self._netlink, [plain], lambda change: _message(change, self._interfaces.indices)) != ([], []):
            return False
        self._plain[wanted.id] = wanted.resilient
        return True

    def _keep(self, changes: Sequence[Change]) -> list[Failure]:
        """Apply on a kernel without nexthop objects."""
        for change in changes:
            nexthop = change.resource
            assert isinstance(nexthop, Nexthop)
            if change.after is None:
                self._table.drop(nexthop.id)
            else:
                self._table.put(nexthop)
        return []

    def _differing(self, exist: list[Failure]) -> list[Failure]:
        """The failed creations for which a different nexthop exists."""
        if not exist:
            return []
        there = {_bare(observed.resource) for observed in self.observe()}
        return [failed for failed in exist if _bare(failed.change.resource) not in there]


def _bare(nexthop: Resource) -> tuple[object, ...]:
    """A nexthop without what may differ in form: the order of its members, the family of its interface."""
    assert isinstance(nexthop, Nexthop)
    members = frozenset((m.id, m.weight) for m in nexthop.group)
    return nexthop.id, nexthop.dev, nexthop.via, members, nexthop.resilient


def _message(change: Change, indices: dict[str, int]) -> Message:
    if change.after is None:
        assert isinstance(change.before, Nexthop)
        return RTM_DELNEXTHOP, 0, encode_delete(change.before)
    assert isinstance(change.after, Nexthop)
    flags = NLM_F_CREATE | (NLM_F_EXCL if change.before is None else NLM_F_REPLACE)
    return RTM_NEWNEXTHOP, flags, encode(change.after, indices)
