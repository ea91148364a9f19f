"""The host's WireGuard devices, whichever backend each has. Shared by the drivers of devices and of peers."""

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
"""As many interfaces are asked for one by one rather than all at once."""
_SHARE_SECONDS = 0.25
"""For so long may a look use what the one just before it has found: which devices there are, and their peers."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device, its owner's mark and how to speak to it."""

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
        """When a process was last behind each TUN device."""

    def is_device(self, interface: InterfaceInfo) -> bool:
        """Whether an interface is a WireGuard device: the kernel's, or a TUN device with wireguard-go behind it."""
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
        """Those of these devices that there are. Raises OSError."""
        if len(names) > FEW:
            return {name: device for name, device in self.named().items() if name in names}
        found = (read_interface(self._netlink, name) for name in names)
        return {one.name: self._of(one) for one in found if one is not None and self.is_device(one)}

    def _of(self, interface: InterfaceInfo) -> Device:
        backend: Backend = self._kernel if interface.kind == "wireguard" else self.uapi
        return Device(interface.name, interface.alias, backend)

    def read(self, only: Collection[str] | None = None) -> list[tuple[Device, DeviceState]]:
        """The devices with their states, all or some; what vanishes meanwhile is left out. Raises OSError."""
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
        """What `read` found of the same devices a moment ago, once; else as `read`. A dump is worth sharing."""
        shared, self._read = self._read, None
        if shared is not None and shared[0] == only and time.monotonic() - self._read_at <= _SHARE_SECONDS:
            return shared[1]
        found = self.read(only)
        self._read = None
        return found

    def changed(self) -> None:
        """Forget what was read: something is about to change."""
        self._read = None
        self._answered.clear()
