"""Interface indices and names: the kernel speaks of the one, plans of the other."""

from __future__ import annotations

from struct import Struct

from reconciler.system.netlink import Netlink, attribute_u32, each_attribute, text_of

RTM_GETLINK = 18
IFLA_IFNAME = 3
IFLA_EXT_MASK = 29
SKIP_STATS = 1 << 3

IFINFO = Struct("=BxHiII")
"""struct ifinfomsg (rtnetlink(7)): family, type, index, flags, change."""


def dump_links(netlink: Netlink) -> list[bytes]:
    """Every link's RTM_NEWLINK body, without statistics."""
    return netlink.dump(RTM_GETLINK, IFINFO.pack(0, 0, 0, 0, 0) + attribute_u32(IFLA_EXT_MASK, SKIP_STATS))


class Interfaces:
    """What stands behind indices and names now, read again on every `refresh`."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self.names: dict[int, str] = {}
        self.indices: dict[str, int] = {}
        self._ever: dict[int, str] = {}

    def refresh(self) -> bool:
        """Read again; True where an index no longer means what it once meant. Raises OSError."""
        names: dict[int, str] = {}
        for body in dump_links(self._netlink):
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
