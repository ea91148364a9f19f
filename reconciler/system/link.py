"""Links over rtnetlink (linux/if_link.h): WireGuard devices, bonds and bridges, marked by their alias."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

from reconciler.kinds.base import ALIAS, Failure, Observed
from reconciler.system import wireguard_go
from reconciler.system.aside import Aside
from reconciler.system.failure import ABSENT, failure
from reconciler.system.interfaces import (
    IFF_UP,
    IFINFO,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    RTM_DELLINK,
    RTM_NEWLINK,
    InterfaceInfo,
    read_interfaces,
)
from reconciler.system.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    U8,
    U32,
    Netlink,
    attribute,
    attribute_text,
    attribute_u32,
    attributes,
    nested,
)
from reconciler.system.wg_devices import Devices
from schema.plan import BondOptions, Change, Link

BOND_MODE, BOND_MIIMON, BOND_PRIMARY, BOND_XMIT_HASH_POLICY, BOND_MIN_LINKS, BOND_AD_LACP_RATE = 1, 3, 11, 14, 18, 21
MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
HASHES = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")
_NO_KIND = {errno.EOPNOTSUPP, errno.ENOTSUP}


def encode_bond(options: BondOptions, there: BondOptions | None, indices: Mapping[str, int]) -> bytes:
    """The IFLA_INFO_DATA that changes a bond's options (None: a new bond) to `options`; it contains only differences.

    The kernel refuses some options in certain modes, or while the bond is up, even if they do not change. A mode can be
    set only while there are no members, so only when a bond is created.
    """
    parts = b"" if there else attribute(BOND_MODE, U8.pack(MODES.index(options.mode)))
    old = there or BondOptions(mode=options.mode, xmit_hash_policy="layer2", miimon=0)
    if options.miimon != old.miimon:
        parts += attribute_u32(BOND_MIIMON, options.miimon)
    if options.xmit_hash_policy != old.xmit_hash_policy:
        parts += attribute(BOND_XMIT_HASH_POLICY, U8.pack(HASHES.index(options.xmit_hash_policy)))
    if options.min_links != old.min_links:
        parts += attribute_u32(BOND_MIN_LINKS, options.min_links or 0)
    if options.lacp_rate != old.lacp_rate:
        parts += attribute(BOND_AD_LACP_RATE, U8.pack(options.lacp_rate == "fast"))
    if options.primary != old.primary:
        parts += attribute_u32(BOND_PRIMARY, indices.get(options.primary or "", 0))
    return parts


def decode_bond(data: bytes, names: Mapping[int, str]) -> BondOptions:
    """Options without validation, because foreign bonds may have values that no plan has. Kernel defaults are None."""
    found = attributes(data)
    mode = name_of(MODES, found.get(BOND_MODE))
    fast = mode == "802.3ad" and bool(found.get(BOND_AD_LACP_RATE, b"\0")[0])
    return BondOptions.model_construct(
        None,
        mode=cast(Any, mode),
        xmit_hash_policy=cast(Any, name_of(HASHES, found.get(BOND_XMIT_HASH_POLICY))),
        miimon=U32.unpack(found.get(BOND_MIIMON, bytes(4)))[0],
        lacp_rate="fast" if fast else None,
        min_links=U32.unpack(found.get(BOND_MIN_LINKS, bytes(4)))[0] or None,
        primary=names.get(U32.unpack(found.get(BOND_PRIMARY, bytes(4)))[0]),
    )


def name_of(names: Sequence[str], number: bytes | None) -> str:
    value = number[0] if number else 0
    return names[value] if value < len(names) else str(value)


class LinkDriver:
    """Links of the three types; other interfaces are not reported."""

    def __init__(self, netlink: Netlink, devices: Devices, aside: Aside = nullcontext) -> None:
        self._netlink = netlink
        self._devices = devices
        self._aside = aside

    def observe(self) -> list[Observed[Link]]:
        interfaces = read_interfaces(self._netlink)
        names = _names(interfaces)
        members: dict[int, list[str]] = {}
        for interface in interfaces.values():
            if interface.master is not None:
                members.setdefault(interface.master, []).append(interface.name)
        found = []
        for interface in interfaces.values():
            kind = self._type(interface)
            if kind is not None:
                own = tuple(sorted(members.get(interface.index, ())))
                found.append(Observed(_link(interface, kind, own, names), interface.alias, up=interface.up))
        return found

    def _type(self, interface: InterfaceInfo) -> str | None:
        if interface.kind in ("bond", "bridge"):
            return interface.kind
        return "wireguard" if self._devices.is_device(interface) else None

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        self._devices.changed()
        failures = []
        for change in changes:
            try:
                self._apply(change)
            except OSError as error:
                if change.after is not None or error.errno not in ABSENT:
                    failures.append(failure(change, error))
        return failures

    def _apply(self, change: Change) -> None:
        before, after = change.before, change.after
        assert (before is None or isinstance(before, Link)) and (after is None or isinstance(after, Link))
        interfaces = read_interfaces(self._netlink)
        there = interfaces.get(str(change.resource.key[0]))
        if after is None:
            if there is not None and there.alias == ALIAS:
                self._delete(there, interfaces)
            return
        if there is not None and before is not None and _must_be_remade(before, after):
            self._delete(there, interfaces)
            there = None
        if there is None:
            self._create(after, interfaces)
            interfaces = read_interfaces(self._netlink)
            there = interfaces.get(after.name)
            if there is None:
                raise OSError(errno.ENODEV, f"{after.name} went away as soon as it was made")
        elif before is None and self._type(there) != after.type:
            raise OSError(errno.EEXIST, f"{after.name} exists and is no {after.type}")
        elif before is None and there.alias != ALIAS:
            self._refuse_other(there, after, interfaces)
            return
        self._set(after, there, interfaces)

    def _refuse_other(self, there: InterfaceInfo, after: Link, interfaces: dict[str, InterfaceInfo]) -> None:
        """A foreign link has our name: accept it if it is as wanted. Raises OSError (EEXIST)."""
        members = {name for name, one in interfaces.items() if one.master == there.index}
        same_bond = after.bond is None or decode_bond(there.data, _names(interfaces)) == after.bond
        numbers = after.mtu in (None, there.mtu) and after.group in (None, there.group)
        if not numbers or members != set(after.members) or not same_bond:
            raise OSError(errno.EEXIST, f"{after.name} exists and is not ours")

    def _create(self, link: Link, interfaces: dict[str, InterfaceInfo]) -> None:
        """Create the interface and mark it at once, so that a crash leaves nothing that looks foreign."""
        info = attribute_text(IFLA_INFO_KIND, link.type)
        if link.bond is not None:
            info += nested(IFLA_INFO_DATA, encode_bond(link.bond, None, _indices(interfaces)))
        body = _header() + attribute_text(IFLA_IFNAME, link.name) + nested(IFLA_LINKINFO, info)
        try:
            self._netlink.request((RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body))
        except OSError as error:
            if link.type != "wireguard" or error.errno not in _NO_KIND:
                raise
            wireguard_go.start(link.name, self._devices.uapi, self._aside)
            self._devices.changed()  # other threads may have read meanwhile
        self._change(attribute_text(IFLA_IFNAME, link.name) + attribute(IFLA_IFALIAS, ALIAS.encode()))

    def _set(self, link: Link, there: InterfaceInfo, interfaces: dict[str, InterfaceInfo]) -> None:
        """Set mark, MTU, group, options and members, then bring the link up; each only if it differs."""
        parts = b""
        if there.alias != ALIAS:
            parts += attribute(IFLA_IFALIAS, ALIAS.encode())
        if link.group not in (None, there.group):
            parts += attribute_u32(IFLA_GROUP, link.group or 0)
        up = there.up
        if link.bond is not None and (options := decode_bond(there.data, _names(interfaces))) != link.bond:
            if up and options.lacp_rate != link.bond.lacp_rate:
                self._change(b"", there.index, 0)  # bonding cannot change it while the bond is up
                up = False
            data = nested(IFLA_INFO_DATA, encode_bond(link.bond, options, _indices(interfaces)))
            parts += nested(IFLA_LINKINFO, attribute_text(IFLA_INFO_KIND, "bond") + data)
        if parts:
            self._change(parts, there.index)
        self._set_members(link, there, interfaces)
        if link.mtu not in (None, there.mtu):
            # After the members: a bond sets its MTU on them, and a bridge takes their minimum until its own is set.
            self._change(attribute_u32(IFLA_MTU, link.mtu or 0), there.index)
        if not up:
            self._change(b"", there.index, IFF_UP)

    def _set_members(self, link: Link, there: InterfaceInfo, interfaces: dict[str, InterfaceInfo]) -> None:
        for name, interface in interfaces.items():
            if interface.master == there.index and name not in link.members:
                self._change(attribute_u32(IFLA_MASTER, 0), interface.index)
                if interface.up:
                    self._change(b"", interface.index, IFF_UP)  # bonding sets a released member down
        for name in link.members:
            member = interfaces.get(name)
            if member is None:
                raise OSError(errno.ENODEV, f"no interface {name} for {link.name}")
            if member.master == there.index:
                continue
            if link.type == "bond" and member.up:
                self._change(b"", member.index, 0)  # bonding accepts no interface that is up
            self._change(attribute_u32(IFLA_MASTER, there.index), member.index)
            self._change(b"", member.index, IFF_UP)

    def _delete(self, there: InterfaceInfo, interfaces: dict[str, InterfaceInfo]) -> None:
        connection = self._devices.uapi.connect(there.name) if there.kind == "tun" else None
        self._netlink.request((RTM_DELLINK, 0, _header(there.index)))
        for member in interfaces.values():
            if member.master == there.index and member.up:
                self._change(b"", member.index, IFF_UP)  # bonding sets a released member down
        if connection is not None:
            wireguard_go.await_end(connection, self._aside)

    def _change(self, parts: bytes, index: int = 0, up: int | None = None) -> None:
        self._netlink.request((RTM_NEWLINK, 0, _header(index, up) + parts))


def _header(index: int = 0, up: int | None = None) -> bytes:
    """struct ifinfomsg; `up` sets or clears IFF_UP, None leaves it."""
    return IFINFO.pack(0, 0, index, up or 0, 0 if up is None else IFF_UP)


def _names(interfaces: Mapping[str, InterfaceInfo]) -> dict[int, str]:
    return {interface.index: name for name, interface in interfaces.items()}


def _indices(interfaces: Mapping[str, InterfaceInfo]) -> dict[str, int]:
    return {name: interface.index for name, interface in interfaces.items()}


def _must_be_remade(before: Link, after: Link) -> bool:
    modes = {link.bond.mode for link in (before, after) if link.bond}
    return before.type != after.type or len(modes) > 1


def _link(interface: InterfaceInfo, kind: str, members: tuple[str, ...], names: Mapping[int, str]) -> Link:
    return Link.model_construct(
        None,
        kind="link",
        name=interface.name,
        type=cast(Any, kind),
        mtu=interface.mtu,
        group=interface.group,
        members=members,
        bond=decode_bond(interface.data, names) if kind == "bond" else None,
    )
