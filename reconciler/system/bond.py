"""Reads running bonds: LACP, carriers, and received bytes (linux/if_link.h, linux/if_bonding.h)."""

from __future__ import annotations

from collections.abc import Collection
from struct import Struct

from reconciler.kinds.link import BondState, Leg
from reconciler.system.interfaces import (
    IFINFO,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    RTM_GETLINK,
)
from reconciler.system.link import BOND_MODE, BOND_XMIT_HASH_POLICY, HASHES, MODES, name_of
from reconciler.system.netlink import U16, U32, Netlink, attributes, text_of

IFLA_STATS64 = 23
IFLA_INFO_SLAVE_DATA = 5
BOND_AD_INFO, AD_AGGREGATOR, AD_PARTNER_MAC = 23, 1, 5
SLAVE_MII_STATUS, SLAVE_AD_AGGREGATOR = 2, 6
MII_UP = 0
NOBODY = bytes(6)
_RX_BYTES = Struct("=16xQ")
"""struct rtnl_link_stats64: packets in, packets out, bytes in."""


class BondReader:
    """Reads bonds in the network namespace of the thread that creates it."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    def read(self, names: Collection[str]) -> tuple[dict[str, BondState], dict[str, int]]:
        """The named bonds, and all interfaces' received bytes, from one moment. Raises OSError."""
        found = [_decode(body) for body in self._netlink.dump(RTM_GETLINK, IFINFO.pack(0, 0, 0, 0, 0))]
        legs: dict[int, list[Leg]] = {}
        received = {}
        for _, name, top in found:
            if IFLA_STATS64 in top:
                received[name] = _RX_BYTES.unpack_from(top[IFLA_STATS64])[0]
            if IFLA_MASTER in top:
                legs.setdefault(U32.unpack(top[IFLA_MASTER])[0], []).append(_leg(name, top))
        bonds = {}
        for index, name, top in found:
            info = attributes(top.get(IFLA_LINKINFO, b""))
            if name in names and text_of(info.get(IFLA_INFO_KIND, b"")) == "bond":
                bonds[name] = _bond(info.get(IFLA_INFO_DATA, b""), tuple(legs.get(index, ())))
        return bonds, received


def _decode(body: bytes) -> tuple[int, str, dict[int, bytes]]:
    top = attributes(body, IFINFO.size)
    return IFINFO.unpack_from(body)[2], text_of(top[IFLA_IFNAME]), top


def _leg(name: str, top: dict[int, bytes]) -> Leg:
    data = attributes(attributes(top.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_SLAVE_DATA, b""))
    aggregator = U16.unpack(data[SLAVE_AD_AGGREGATOR])[0] if SLAVE_AD_AGGREGATOR in data else None
    return Leg(name, data.get(SLAVE_MII_STATUS) == bytes([MII_UP]), aggregator)


def _bond(data: bytes, legs: tuple[Leg, ...]) -> BondState:
    found = attributes(data)
    lacp = attributes(found.get(BOND_AD_INFO, b""))
    return BondState(
        mode=name_of(MODES, found.get(BOND_MODE)),
        hash=name_of(HASHES, found.get(BOND_XMIT_HASH_POLICY)),
        legs=legs,
        aggregator=U16.unpack(lacp[AD_AGGREGATOR])[0] if AD_AGGREGATOR in lacp else None,
        partner=lacp.get(AD_PARTNER_MAC, NOBODY) != NOBODY,
    )
