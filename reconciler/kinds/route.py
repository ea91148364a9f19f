"""Routes: ours by protocol."""

from __future__ import annotations

from reconciler.kinds.base import Kind
from schema.plan import PROTOCOL

KIND = Kind(
    name="route",
    marker=PROTOCOL,
    stands_on=frozenset({"link", "sysctl", "address", "nexthop"}),
    announced_by="rtnetlink",
    messages=(24, 25),
)
