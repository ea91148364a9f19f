"""Addresses over rtnetlink (linux/if_addr.h). Ours carry IFA_PROTO 117 (kernel 5.18 and later)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from struct import Struct

from reconciler.kinds.base import Failure, Observed
from reconciler.system.failure import failure, send
from reconciler.system.interfaces import Interfaces
from reconciler.system.ip import pack_prefix, unpack
from reconciler.system.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    U8,
    Message,
    Netlink,
    attribute,
    attribute_u32,
    attributes,
)
from schema.plan import PROTOCOL, Address, Change, Key

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_PROTO = 1, 2, 8, 11
IFA_F_NODAD = 0x02
AF_INET6 = 10

IFADDR = Struct("=BBBBI")
"""struct ifaddrmsg: family, prefixlen, flags, scope, index."""


def encode(address: Address, index: int) -> bytes:
    """The body that creates or deletes an address. It disables duplicate address detection, which would make an IPv6
    address unusable for seconds and is useless on tunnels."""
    family, local, length = pack_prefix(address.address)
    parts = attribute(IFA_LOCAL, local) + attribute(IFA_ADDRESS, local) + attribute(IFA_PROTO, U8.pack(PROTOCOL))
    if family == AF_INET6:
        parts += attribute_u32(IFA_FLAGS, IFA_F_NODAD)
    return IFADDR.pack(family, length, 0, 0, index) + parts


def decode(body: bytes, names: dict[int, str]) -> Observed[Address] | None:
    """An address from its RTM_NEWADDR body; None if its interface is gone or it has no address."""
    _, length, _, _, index = IFADDR.unpack_from(body)
    found = attributes(body, IFADDR.size)
    local = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if index not in names or local is None:
        return None
    marker = found.get(IFA_PROTO)
    resource = Address.model_construct(None, kind="address", dev=names[index], address=f"{unpack(local)}/{length}")
    return Observed(resource, marker[0] if marker else None)


class AddressDriver:
    """Addresses of both families on every interface."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._interfaces = Interfaces(netlink)

    def observe(self) -> list[Observed[Address]]:
        self._interfaces.refresh()
        names = self._interfaces.names
        bodies = self._netlink.dump(RTM_GETADDR, IFADDR.pack(0, 0, 0, 0, 0))
        found = (decode(body, names) for body in bodies)
        return [address for address in found if address is not None]

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        """A change of an address can only concern its marker: it takes over an existing address.

        A kernel that cannot mark an existing IPv4 address (6.1) accepts the message and does nothing. Deleting and
        creating it again would delete the routes over it, so that is left to the user.
        """
        theirs = self._foreign() if any(change.after is None for change in changes) else set()
        self._interfaces.refresh()

        def pack_one(change: Change) -> Message | None:
            address = change.resource
            assert isinstance(address, Address)
            index = self._interfaces.indices.get(address.dev)
            if change.after is None and (index is None or address.key in theirs):
                return None  # none of ours exists
            if index is None:
                raise OSError(errno.ENODEV, f"no interface {address.dev}")
            return *_verb(change), encode(address, index)

        # An address consists only of interface, address and length: an existing one is equal.
        failures, _ = send(self._netlink, changes, pack_one)
        changed = [change for change in changes if change.before is not None and change.after is not None]
        unmarked = self._foreign() if changed else set()
        cannot = OSError(errno.EOPNOTSUPP, "this kernel cannot mark an address that is there already: delete it first")
        return failures + [failure(change, cannot) for change in changed if change.resource.key in unmarked]

    def _foreign(self) -> set[Key]:
        return {observed.resource.key for observed in self.observe() if observed.marker != PROTOCOL}


def _verb(change: Change) -> tuple[int, int]:
    if change.after is None:
        return RTM_DELADDR, 0
    return RTM_NEWADDR, NLM_F_CREATE | (NLM_F_EXCL if change.before is None else NLM_F_REPLACE)
