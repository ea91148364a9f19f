"""Interfaces as the kernel lists them (linux/if_link.h), and their names by index, because plans use names."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from struct import Struct

from reconciler.system.netlink import U32, Netlink, attribute_text, attribute_u32, attributes, each_attribute, text_of

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_EXT_MASK = 3, 4, 10, 18, 20, 27, 29
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFF_UP = 0x1
SKIP_STATS = 1 << 3

IFINFO = Struct("=BxHiII")
"""struct ifinfomsg (rtnetlink(7)): family, type, index, flags, change."""


@dataclass(frozen=True, slots=True)
class InterfaceInfo:
    """The properties of an interface that we need."""

    index: int
    name: str
    kind: str
    """As in `ip link add type KIND`; empty for hardware and loopback."""
    mtu: int
    up: bool
    alias: str | None
    group: int
    master: int | None
    """The index of the bond or bridge that it is a member of."""
    data: bytes
    """IFLA_INFO_DATA: attributes that depend on the kind."""


def _dump(netlink: Netlink) -> list[bytes]:
    """Every link's RTM_NEWLINK body, without statistics."""
    return netlink.dump(RTM_GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + attribute_u32(IFLA_EXT_MASK, SKIP_STATS))


def decode(body: bytes) -> InterfaceInfo:
    """An interface from its RTM_NEWLINK body."""
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = attributes(body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))

    def number(kind: int) -> int | None:
        return U32.unpack(found[kind])[0] if kind in found else None

    return InterfaceInfo(
        index=index,
        name=text_of(found[IFLA_IFNAME]),
        kind=text_of(info.get(IFLA_INFO_KIND, b"")),
        mtu=number(IFLA_MTU) or 0,
        up=bool(flags & IFF_UP),
        alias=text_of(found[IFLA_IFALIAS]) if IFLA_IFALIAS in found else None,
        group=number(IFLA_GROUP) or 0,
        master=number(IFLA_MASTER),
        data=info.get(IFLA_INFO_DATA, b""),
    )


def read_interfaces(netlink: Netlink) -> dict[str, InterfaceInfo]:
    """Every interface by name. Raises OSError."""
    return {interface.name: interface for interface in map(decode, _dump(netlink))}


def read_interface(netlink: Netlink, name: str) -> InterfaceInfo | None:
    """One interface; None if there is none of that name. Raises OSError."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + attribute_text(IFLA_IFNAME, name) + attribute_u32(IFLA_EXT_MASK, SKIP_STATS)
    try:
        return decode(netlink.request((RTM_GETLINK, 0, body))[0])
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None


class Interfaces:
    """The current names and indices, read again on every `refresh`: cheaper than `read_interfaces`."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self.names: dict[int, str] = {}
        self.indices: dict[str, int] = {}
        self._ever: dict[int, str] = {}

    def refresh(self) -> bool:
        """Read again. Returns True if an index now belongs to another name. Raises OSError."""
        names: dict[int, str] = {}
        for body in _dump(self._netlink):
            index = IFINFO.unpack_from(body)[2]
            for kind, payload in each_attribute(body, IFINFO.size):
                if kind == IFLA_IFNAME:
                    names[index] = text_of(payload)
                    break
        renamed = any(self._ever.get(index, name) != name for index, name in names.items())
        self._ever = names if renamed else self._ever | names
        self.names = names
        self.indices = {name: index for index, name in names.items()}
        return renamed
