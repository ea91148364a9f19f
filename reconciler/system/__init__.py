"""The only code that accesses the kernel: one driver per kind, and the events that announce changes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.kinds.base import Driver
from reconciler.system.aside import Aside
from reconciler.system.ends import Ends
from reconciler.system.sysctl import OldValues
from schema.plan import SecretRef

__all__ = ["Aside", "Context", "Ends", "drivers", "first_address"]


def first_address(host: str) -> str:
    """The first address of a DNS name, as the system resolves it. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return str(found[0][4][0])


@dataclass(frozen=True, slots=True)
class Context:
    """The host's services for drivers."""

    secret: Callable[[SecretRef], bytes]
    """Returns a secret when it is applied: 32 raw bytes for a key. Raises LookupError, ValueError or OSError, without
    the secret in their texts."""
    inventory: OldValues
    services: Path
    """The folder of the daemons that the agent runs; with several agents on a machine, each has its own."""
    resolve: Callable[[str], str] = first_address
    """An address for a DNS name. Raises OSError."""
    aside: Aside = nullcontext
    """Entered by a driver while it waits for a process: other threads may use the drivers meanwhile."""
    ends: Ends | None = None
    """Told which daemons to wait for, so that their end is an event."""


def drivers(context: Context) -> dict[str, Driver[Any]]:
    """Every kind's driver, for the network namespace of the calling thread. Not for two threads at once.

    Raises OSError if the kernel provides no netlink socket.
    """
    from reconciler.system.address import AddressDriver
    from reconciler.system.firewall import FirewallDriver
    from reconciler.system.link import LinkDriver
    from reconciler.system.multipath import NexthopTable
    from reconciler.system.netlink import Netlink
    from reconciler.system.nexthop import NexthopDriver
    from reconciler.system.peer import PeerDriver
    from reconciler.system.route import RouteDriver
    from reconciler.system.rule import RuleDriver
    from reconciler.system.service import ServiceDriver
    from reconciler.system.sysctl import SysctlDriver
    from reconciler.system.wg_devices import Devices
    from reconciler.system.wireguard import WireguardDriver

    netlink = Netlink()
    devices = Devices(netlink)
    nexthops = NexthopTable()
    return {
        "firewall": FirewallDriver(),
        "link": LinkDriver(netlink, devices, context.aside),
        "sysctl": SysctlDriver(context.inventory),
        "wireguard": WireguardDriver(devices, context.secret),
        "address": AddressDriver(netlink),
        "peer": PeerDriver(devices, context.secret, context.resolve),
        "nexthop": NexthopDriver(netlink, nexthops),
        "route": RouteDriver(netlink, nexthops),
        "rule": RuleDriver(netlink),
        "service": ServiceDriver(context.services, context.aside, context.ends),
    }
