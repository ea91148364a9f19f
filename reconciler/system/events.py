"""Which kinds of resource the kernel says have changed (rtnetlink(7), linux/netfilter/nfnetlink.h)."""

from __future__ import annotations

import errno

from reconciler.system.interfaces import IFF_UP, IFINFO, RTM_NEWLINK
from reconciler.system.netlink import NETFILTER, ROUTE, Netlink
from schema.plan import RESOURCES

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ADDRESS = 1, 5, 7, 8, 9
_IPV6_ROUTE, _IPV6_RULE, _NEXTHOP = 11, 19, 32
_GROUPS = (_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ADDRESS, _IPV6_ROUTE, _IPV6_RULE, _NEXTHOP)
_NFTABLES = 7

_ON_LINKS = frozenset({"link", "sysctl", "wireguard", "address", "peer", "nexthop", "route"})
"""What goes with an interface."""
_BY_TYPE = {
    16: frozenset({"link"}), 17: _ON_LINKS,
    20: frozenset({"address"}), 21: frozenset({"address", "route"}),
    24: frozenset({"route"}), 25: frozenset({"route"}),
    32: frozenset({"rule"}), 33: frozenset({"rule"}),
    104: frozenset({"nexthop"}), 105: frozenset({"nexthop", "route"}),
}  # fmt: skip


class Watch:
    """Sockets that become readable when something changes, in the network namespace of the thread that makes it.

    Nothing announces WireGuard peers, kernel parameters, or the rules of legacy iptables.
    """

    def __init__(self) -> None:
        """Raises OSError."""
        self._route = Netlink(ROUTE, _GROUPS)
        self._filter: Netlink | None = None
        try:
            self._filter = Netlink(NETFILTER, (_NFTABLES,))
        except OSError:
            pass  # a kernel without nftables, or no right to listen: the firewall is polled

    @property
    def announces_firewall(self) -> bool:
        """Whether changes made through iptables-nft are announced."""
        return self._filter is not None

    def filenos(self) -> list[int]:
        """File descriptors to wait for, for example with asyncio's `add_reader`."""
        return [watched.fileno() for watched in (self._route, self._filter) if watched is not None]

    def read(self) -> set[str]:
        """The kinds touched since the last call, without blocking. Raises OSError."""
        touched = self._read(self._route, route=True)
        if self._filter is not None:
            touched |= self._read(self._filter, route=False)
        return touched

    def _read(self, netlink: Netlink, *, route: bool) -> set[str]:
        touched: set[str] = set()
        try:
            for kind, body in netlink.events():
                if not route:
                    touched.add("firewall")
                    continue
                touched |= _BY_TYPE.get(kind, frozenset())
                if kind == RTM_NEWLINK and len(body) >= IFINFO.size and not IFINFO.unpack_from(body)[3] & IFF_UP:
                    touched |= _ON_LINKS  # what lay on a link that is down is gone, without a word about it
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return set(RESOURCES)
        return touched

    def close(self) -> None:
        self._route.close()
        if self._filter is not None:
            self._filter.close()
