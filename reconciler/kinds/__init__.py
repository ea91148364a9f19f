"""What the agent knows about each kind of resource without touching the kernel: one pure file per kind."""

from __future__ import annotations

from reconciler.kinds import address, firewall, link, nexthop, peer, route, rule, service, sysctl, wireguard
from reconciler.kinds.base import Kind

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (firewall, link, sysctl, wireguard, address, peer, nexthop, route, rule, service)
}  # fmt: skip
"""Every kind by name, in the order in which it is created."""
