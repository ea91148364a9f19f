"""What a host holds, as text and plain data that can be compared: ours, and what is others'."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.lab.twin import Twin, as_json

OURS = "117"


@dataclass(frozen=True)
class PeerState:
    """One line of `wg show all dump`."""

    endpoint: str
    allowed: frozenset[str]
    handshake: int
    rx: int
    tx: int
    keepalive: str


def devices(twin: Twin, host: str) -> dict[str, tuple[str, ...]]:
    """WireGuard device -> its keys, port and mark."""
    rows = (line.split("\t") for line in twin.run(host, "wg show all dump").splitlines())
    return {row[0]: tuple(row[1:]) for row in rows if len(row) == 5}


def peers(twin: Twin, host: str) -> dict[tuple[str, str], PeerState]:
    """(device, public key) -> the peer's state."""
    rows = (line.split("\t") for line in twin.run(host, "wg show all dump").splitlines())
    return {
        (row[0], row[1]): PeerState(row[3], frozenset(row[4].split(",")), int(row[5]), int(row[6]), int(row[7]), row[8])
        for row in rows
        if len(row) == 9
    }


def routes(twin: Twin, host: str) -> set[tuple[str, ...]]:
    """Our routes: destination, table and way."""
    found = set()
    for family in ("-4", "-6"):
        for row in as_json(twin.run(host, f"ip -j {family} route show table all proto {OURS}")):
            hops = [hop["dev"] for hop in row.get("nexthops", [])]
            way = [row.get("dev", ""), row.get("gateway", ""), *hops]
            found.add((row["dst"], row.get("table", "main"), row.get("type", ""), str(row.get("metric", "")), *way))
    return found


def rules(twin: Twin, host: str, *, ours: bool) -> list[str]:
    """The lines of iptables-save and ip6tables-save that name one of our chains, or those that do not."""
    lines: list[str] = []
    for tool in ("iptables-save", "ip6tables-save"):
        for line in twin.run(host, tool).splitlines():
            if line.startswith((":", "-")) and ("GITWAN-" in line) == ours:
                lines.append(f"{tool[:-5]} {re.sub(r' .[0-9]+:[0-9]+.$', '', line)}")
    return lines


def links(twin: Twin, host: str) -> dict[str, dict[str, Any]]:
    return {row["ifname"]: row for row in as_json(twin.run(host, "ip -j link show"))}


def our_links(twin: Twin, host: str) -> dict[str, int]:
    """Our links -> their index, which changes where one was made anew."""
    return {name: row["ifindex"] for name, row in links(twin, host).items() if row.get("ifalias") == "gitwan"}


def addresses(twin: Twin, host: str) -> set[tuple[str, str]]:
    """(interface, address) of global scope."""
    rows = as_json(twin.run(host, "ip -j address show"))
    return {
        (row["ifname"], f"{a['local']}/{a['prefixlen']}")
        for row in rows
        for a in row["addr_info"]
        if a["scope"] == "global"
    }


def ours(twin: Twin, host: str) -> dict[str, Any]:
    """All that gitwan keeps on a host, without what changes by itself."""
    return {
        "links": sorted(our_links(twin, host)),
        "addresses": addresses(twin, host),
        "nexthops": [
            {k: v for k, v in row.items() if k != "flags"} for row in as_json(twin.run(host, "ip -j nexthop show"))
        ],
        "routes": routes(twin, host),
        "rules": rules(twin, host, ours=True),
        "devices": devices(twin, host),
        "peers": {key: (state.allowed, state.keepalive) for key, state in peers(twin, host).items()},
    }


def others(twin: Twin, host: str) -> dict[str, str | list[str]]:
    """All that gitwan did not make on a host, as the tools print it."""
    mine = set(our_links(twin, host))

    def without_ours(command: str) -> list[str]:
        rows = as_json(twin.run(host, command))
        # The kernel's own routes come and go with addresses, ours as well as others'.
        return [
            str(row) for row in rows if str(row.get("protocol")) not in (OURS, "kernel") and row.get("dev") not in mine
        ]

    return {
        "routes": without_ours("ip -j -4 route show table all") + without_ours("ip -j -6 route show table all"),
        "rules": without_ours("ip -j -4 rule show") + without_ours("ip -j -6 rule show"),
        "iptables": rules(twin, host, ours=False),
        "links": [str(row) for name, row in links(twin, host).items() if name not in mine],
    }
