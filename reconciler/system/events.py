"""Tells which kinds of resource the kernel announces as changed (rtnetlink(7), linux/netfilter/nfnetlink.h)."""

from __future__ import annotations

import errno

from reconciler.kinds import KINDS, dependents
from reconciler.system.interfaces import IFF_UP, IFINFO, RTM_NEWLINK
from reconciler.system.netlink import NETFILTER, ROUTE, Netlink
from schema.plan import RESOURCES

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ADDRESS = 1, 5, 7, 8, 9
_IPV6_ROUTE, _IPV6_RULE, _NEXTHOP = 11, 19, 32
_GROUPS = (_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ADDRESS, _IPV6_ROUTE, _IPV6_RULE, _NEXTHOP)
_NFTABLES = 7

_ON_LINKS = dependents({"link"})
"""The kinds that are deleted with an interface."""
_BY_TYPE = {
    number: dependents({kind.name}) if gone else frozenset({kind.name})
    for kind in KINDS.values()
    for gone, number in enumerate(kind.messages or ())
}
"""The kinds that a message concerns: a deleted object has taken its dependents with it."""
MOST = 256
"""Maximum number of datagrams per call, so that a storm of events does not block the reader."""


class KernelEvents:
    """Sockets that become readable after a change in the network namespace of the thread that creates them.

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
        """The descriptors to wait for, for example with asyncio's `add_reader`."""
        return [watched.fileno() for watched in (self._route, self._filter) if watched is not None]

    def read(self) -> tuple[set[str], bool]:
        """The kinds touched by the next events, without blocking, and whether more may be waiting. Raises OSError."""
        touched, more = self._read(self._route, route=True)
        if self._filter is not None:
            of_filter, more_of_filter = self._read(self._filter, route=False)
            return touched | of_filter, more or more_of_filter
        return touched, more

    def _read(self, netlink: Netlink, *, route: bool) -> tuple[set[str], bool]:
        touched: set[str] = set()
        try:
            events, more = netlink.events(MOST)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return set(RESOURCES), True
        for kind, body in events:
            if not route:
                touched.add("firewall")
                continue
            touched |= _BY_TYPE.get(kind, frozenset())
            if kind == RTM_NEWLINK and len(body) >= IFINFO.size and not IFINFO.unpack_from(body)[3] & IFF_UP:
                touched |= _ON_LINKS  # objects on a link that went down are deleted without an announcement
        return touched, more

    def close(self) -> None:
        self._route.close()
        if self._filter is not None:
            self._filter.close()
