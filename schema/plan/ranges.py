"""All numbers that gitwan takes from a shared space. They are declared here, and nowhere else.

A test walks `RANGES` and `OTHERS` and fails, with their names, if two ranges of one space overlap. Another test
searches the rest of the tree for such numbers. Code takes a number from a range with `Range.at`, which rejects a number
outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Space = Literal[
    "group id", "interface group", "mark", "nexthop", "protocol", "route metric", "rule priority", "table",
    "virtual router",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Consecutive numbers of one space, and their purpose."""

    space: Space
    name: str
    """The user of these numbers. It is unique among all ranges."""
    first: int
    count: int = 1
    why: str

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def at(self, number: int) -> int:
        """The number at this offset in the range. Raises IndexError if the range is too small."""
        if not 0 <= number < self.count:
            raise IndexError(f"{self.name}: {number} is beyond the {self.count} of this range")
        return self.first + number

    def meets(self, other: Range) -> bool:
        return self.space == other.space and self.first <= other.last and other.first <= self.last


def meetings(ranges: Iterable[Range]) -> list[tuple[str, str]]:
    """The names of every two ranges that overlap in one space."""
    return [(a.name, b.name) for a, b in combinations(ranges, 2) if a.meets(b)]


EXITS_PER_HOST, SLOTS_PER_EXIT = 8, 16
"""Limits: a host has at most 8 exits, and an exit has at most 9 tunnels (`use` plus one)."""
NEXTHOPS_EACH = 10
"""The number of nexthops for each listening port, and for each table of exits: both families, tunnels and groups."""

PROTOCOL_RANGE = Range(
    space="protocol",
    name="routes, rules, nexthops and addresses of ours",
    first=117,
    why="the kernel keeps it beside the object (rtm_protocol and its kin), so whose it is can be asked of the kernel",
)
TUNNELS = Range(
    space="interface group", name="our own tunnels", first=117, why="one firewall rule names all of them by it"
)
EXIT_TUNNELS = Range(
    space="interface group",
    name="tunnels of exits",
    first=118,
    why="what comes in by them is not trusted as what comes from our own tunnels is",
)
AGENT_GROUP = Range(
    space="group id",
    name="the agent's process",
    first=59989,
    why="a supplementary group that nothing else has: what it and its children send gets the mark",
)
REFUSED_TABLE = Range(
    space="table", name="what is refused", first=59988, why="one unreachable default route, for LANs without a gateway"
)
EXIT_TABLES = Range(
    space="table", name="exits", first=59989, count=EXITS_PER_HOST, why="the route that new flows of an exit take"
)
SLOT_TABLES = Range(
    space="table",
    name="tunnels of exits, one by one",
    first=60000,
    count=EXITS_PER_HOST * SLOTS_PER_EXIT,
    why="what belongs to a tunnel's own flows, while they stay where they are",
)
BOUND_RULES = Range(
    space="rule priority", name="what is bound to a tunnel", first=1168, why="before all others, as it has chosen"
)
NAME_RULES = Range(
    space="rule priority",
    name="servers that gateways name",
    first=1169,
    why="before the networks of ours, one of which may have the same private address",
)
MAIN_RULES = Range(
    space="rule priority", name="what main knows better", first=1170, why="the host's own networks, and ours"
)
MARKED_RULES = Range(
    space="rule priority", name="flows that stay with a tunnel", first=1171, why="before the exit's own table"
)
TAKER_RULES = Range(
    space="rule priority", name="those who take an exit", first=1172, why="after what main knows better"
)
REFUSING_RULES = Range(
    space="rule priority", name="those who may not take another way", first=1179, why="after all that lead somewhere"
)
LINK_NEXTHOPS = Range(
    space="nexthop",
    name="tunnels of links and their groups",
    first=117_000_000,
    count=NEXTHOPS_EACH * 65536,
    why="stable by listening port: ten for each",
)
EXIT_NEXTHOPS = Range(
    space="nexthop",
    name="tunnels of exits and their groups",
    first=118_199_890,
    count=NEXTHOPS_EACH * (SLOT_TABLES.last - EXIT_TABLES.first + 1),
    why="ten for each table from the first exit's to the last tunnel's",
)
ROUTE_METRIC = Range(
    space="route metric", name="routes of ours", first=117, why="beside a route of somebody else's, not in its place"
)
GUARD_METRIC_RANGE = Range(
    space="route metric", name="guards", first=1117, why="worse than any route that leads somewhere"
)
BYPASS_MARK = Range(
    space="mark",
    name="what may leave by the underlay",
    first=0,
    why="WireGuard's own packets, and what the agent itself sends",
)
FORWARDED_MARK = Range(
    space="mark", name="what comes to a forwarded port", first=1, why="let in, while all else by an exit is refused"
)
SLOT_MARKS = Range(
    space="mark",
    name="flows of a tunnel that drains",
    first=2,
    count=SLOT_TABLES.count,
    why="one for each table of a tunnel, which conntrack gives back to the packets of its flows",
)
VRID = Range(
    space="virtual router", name="gateways of a site", first=117, why="a default: `gateways.vrid` says another"
)

RANGES = (
    PROTOCOL_RANGE, TUNNELS, EXIT_TUNNELS, AGENT_GROUP, REFUSED_TABLE, EXIT_TABLES, SLOT_TABLES, BOUND_RULES,
    NAME_RULES, MAIN_RULES, MARKED_RULES, TAKER_RULES, REFUSING_RULES, LINK_NEXTHOPS, EXIT_NEXTHOPS, ROUTE_METRIC,
    GUARD_METRIC_RANGE, BYPASS_MARK, FORWARDED_MARK, SLOT_MARKS, VRID,
)  # fmt: skip
"""All of gitwan's ranges. Marks are counted here. `marks.py` turns them into values within the repository's mask."""

OTHERS = (
    Range(space="protocol", name="the kernel, boot and static", first=0, count=5, why="linux/rtnetlink.h"),
    Range(space="protocol", name="gated to keepalived", first=8, count=11, why="linux/rtnetlink.h"),
    Range(space="protocol", name="babel", first=42, why="linux/rtnetlink.h"),
    Range(space="protocol", name="openr", first=99, why="linux/rtnetlink.h"),
    Range(space="protocol", name="bgp to eigrp", first=186, count=7, why="linux/rtnetlink.h"),
    Range(space="interface group", name="interfaces of no group", first=0, why="the kernel's default"),
    Range(space="group id", name="systemd's DynamicUser=", first=61184, count=4336, why="systemd's UIDS-GIDS.md"),
    Range(space="group id", name="nogroup", first=65534, why="Debian's base-passwd"),
    Range(space="table", name="no table", first=0, why="linux/rtnetlink.h"),
    Range(space="table", name="Tailscale's routes", first=52, why="its router_linux.go"),
    Range(space="table", name="default, main and local", first=253, count=3, why="linux/rtnetlink.h"),
    Range(space="table", name="wg-quick's first", first=51820, why="its linux.bash; it counts on from there"),
    Range(space="rule priority", name="local", first=0, why="the kernel's"),
    Range(space="rule priority", name="Tailscale's rules", first=5210, count=61, why="its router_linux.go"),
    Range(space="rule priority", name="main and default", first=32766, count=2, why="the kernel's"),
    Range(space="route metric", name="IPv4's default", first=0, why="the kernel's"),
    Range(space="route metric", name="IPv6's own prefixes", first=256, why="IP6_RT_PRIO_ADDRCONF"),
    Range(space="route metric", name="IPv6's default", first=1024, why="IP6_RT_PRIO_USER; systemd-networkd's, too"),
)
"""Numbers that the kernel and common tools take from the same spaces."""

WORD = 0xFFFFFFFF
"""The full mask of a mark."""
MARKS = (0x55, 0xFF)
"""Value and mask of marks if the repository does not set them.

`MARKS_BEFORE` ends in the same byte. A tunnel with an older mark therefore passes the chains of a newer plan until its
mark is updated.
"""
MARKS_BEFORE = (0xEA55, WORD)
"""The marks in plans without any: these plans are from before marks had a mask."""
MASKS_OF_OTHERS = {
    "kube-proxy and kubelet": 0xC000,
    "Cilium": 0x0F00,
    "Tailscale": 0xFF0000,
    "Calico": 0xFFFF0000,
}
"""Bits of marks that other programs set and read. The default avoids all of them."""

PROTOCOL = PROTOCOL_RANGE.first
"""The creator of a route, rule, nexthop or address, as the kernel stores it (rtm_protocol and similar fields)."""
METRIC, GUARD_METRIC = ROUTE_METRIC.first, GUARD_METRIC_RANGE.first
AGENT = AGENT_GROUP.first
