"""The host's WireGuard devices with their backends. The drivers of devices and of peers share this."""

from __future__ import annotations

import errno
import time
from collections.abc import Collection
from dataclasses import dataclass

from reconciler.system.failure import ABSENT
from reconciler.system.interfaces import InterfaceInfo, read_interface, read_interfaces
from reconciler.system.netlink import Netlink
from reconciler.system.wg import Backend, DeviceState
from reconciler.system.wg_netlink import NetlinkBackend
from reconciler.system.wg_uapi import UapiBackend

FEW = 4
"""Up to this number, interfaces are read one by one instead of all at once."""
_SHARE_SECONDS = 0.25
"""Seconds for which a reading may use the devices and peers of the previous reading."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device, its owner's mark, and its backend."""

    name: str
    marker: str | None
    backend: Backend


class Devices:
    """Every WireGuard device of the network namespace."""

    def __init__(self, netlink: Netlink, uapi: UapiBackend | None = None) -> None:
        self.uapi = uapi or UapiBackend()
        self._netlink = netlink
        self._kernel = NetlinkBackend()
        self._read: tuple[Collection[str] | None, list[tuple[Device, DeviceState]]] | None = None
        self._read_at = 0.0
        self._answered: dict[str, float] = {}
        """The last time at which each TUN device had a process."""

    def is_device(self, interface: InterfaceInfo) -> bool:
        """Whether an interface is a WireGuard device: the kernel's, or a TUN device of wireguard-go."""
        return interface.kind == "wireguard" or (interface.kind == "tun" and self._answers(interface.name))

    def _answers(self, name: str) -> bool:
        now = time.monotonic()
        if now - self._answered.get(name, -_SHARE_SECONDS) < _SHARE_SECONDS:
            return True
        if not self.uapi.answers(name):
            return False
        self._answered[name] = now
        return True

    def named(self) -> dict[str, Device]:
        """The devices by name. Raises OSError."""
        interfaces = read_interfaces(self._netlink).values()
        return {interface.name: self._of(interface) for interface in interfaces if self.is_device(interface)}

    def some(self, names: Collection[str]) -> dict[str, Device]:
        """The existing ones of these devices. Raises OSError."""
        if len(names) > FEW:
            return {name: device for name, device in self.named().items() if name in names}
        found = (read_interface(self._netlink, name) for name in names)
        return {one.name: self._of(one) for one in found if one is not None and self.is_device(one)}

    def _of(self, interface: InterfaceInfo) -> Device:
        backend: Backend = self._kernel if interface.kind == "wireguard" else self.uapi
        return Device(interface.name, interface.alias, backend)

    def read(self, only: Collection[str] | None = None) -> list[tuple[Device, DeviceState]]:
        """All or some devices with their states; a device that vanishes meanwhile is left out. Raises OSError."""
        found: list[tuple[Device, DeviceState]] = []
        for device in self.named().values():
            if only is not None and device.name not in only:
                continue
            try:
                found.append((device, device.backend.read(device.name)))
            except OSError as error:
                if error.errno not in ABSENT and error.errno != errno.EPIPE:
                    raise
        self._read, self._read_at = (only, found), time.monotonic()
        return found

    def read_shared(self, only: Collection[str] | None = None) -> list[tuple[Device, DeviceState]]:
        """The result of `read` for the same devices a moment ago, used once; otherwise read. Saves a second dump."""
        shared, self._read = self._read, None
        if shared is not None and shared[0] == only and time.monotonic() - self._read_at <= _SHARE_SECONDS:
            return shared[1]
        found = self.read(only)
        self._read = None
        return found

    def changed(self) -> None:
        """Forget the last reading, because something is about to change."""
        self._read = None
        self._answered.clear()
