"""The rules in our own chains: what tunnels may do, and what policy denies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from compiler.fabric.model import Fabric, Node
from compiler.plan.site_exits import CLAMP, clamped, entering, forwarded, translated
from schema.ip import Prefix
from schema.plan import Firewall
from schema.plan.base import Family
from schema.plan.ranges import EXIT_TUNNELS, TUNNELS

Hook = Literal["INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]
TableName = Literal["filter", "nat", "mangle"]
FAMILIES: tuple[Family, ...] = ("inet", "inet6")
OURS = TUNNELS.first
FROM_OURS, TO_OURS = f"-m devgroup --src-group {OURS:#x}", f"-m devgroup --dst-group {OURS:#x}"
_FORWARD = (f"{FROM_OURS} -j ACCEPT", f"{TO_OURS} -j ACCEPT")
_FOREIGN = f"-m devgroup --src-group {EXIT_TUNNELS.first:#x} --dst-group {OURS:#x} -j DROP"
"""The far end of an exit's tunnel must not enter our tunnels."""
_MSS = (f"-p tcp {TO_OURS} {CLAMP}",)
_PROBED = (f"-s fe80::/10 -p ipv6-icmp {FROM_OURS} -j ACCEPT",)
"""The probes within tunnels, and their replies."""
_ALL_VIRTUAL_ROUTERS = {"inet": "224.0.0.18/32", "inet6": "ff02::12/128"}
"""RFC 5798, 5.1.1.2 and 5.1.2.2."""
_REFUSE = {"inet": "icmp-port-unreachable", "inet6": "icmp6-port-unreachable"}


def firewall(fabric: Fabric, node: Node) -> Iterator[Firewall]:
    """Our chains on a host with tunnels: accept their traffic, clamp TCP segments to them, refuse what is denied."""
    if not node.edges and not node.clients and not node.served_exits:
        return
    probed = any(edge.watched for edge in node.edges)
    for family in FAMILIES:
        listening = (*_listen(_ports(node)), *_virtual_routers(fabric, node, family))
        denied = tuple(_denied(fabric, node, family))
        # These rules come first: traffic through here is not from our networks, so rules for those must not match it.
        outward, inward = forwarded(fabric, node, family), entering(node, family)
        foreign = (_FOREIGN,) if node.exits else ()
        yield _chain(family, "FORWARD", (*outward, *denied, *foreign, *_FORWARD))
        # Denied prefixes include the host's own addresses, whose traffic passes no FORWARD chain.
        yield _chain(
            family, "INPUT", (*inward, *denied, *listening, *(_PROBED if probed and family == "inet6" else ()))
        )
        if denied:
            yield _chain(family, "OUTPUT", denied)
        yield _chain(family, "FORWARD", (*_MSS, *clamped(node)), "mangle")
        if own := translated(fabric, node, family):
            yield _chain(family, "POSTROUTING", tuple(own), "nat")


def _chain(family: Family, hook: Hook, rules: tuple[str, ...], table: TableName = "filter") -> Firewall:
    return Firewall(family=family, table=table, chain=f"GITWAN-{hook}", hook=hook, rules=rules)


def _virtual_routers(fabric: Fabric, node: Node, family: Family) -> Iterator[str]:
    """Accept VRRP from the other gateways of a LAN, by its multicast address, because the protocol has no port."""
    group = fabric.group(node)
    for segment in group.segments if group else ():
        if any(address.host.family == family for address in segment.virtual):
            yield f"-d {_ALL_VIRTUAL_ROUTERS[family]} -i {segment.devs[node.name]} -j ACCEPT"


def _ports(node: Node) -> list[int]:
    ends = [tunnel.ends[node.name].port for edge in node.edges for tunnel in (*edge.tunnels, *edge.successors)]
    return sorted({*ends, *node.ports.values()})


def _listen(ports: Iterable[int]) -> Iterator[str]:
    """One rule per run of consecutive ports."""
    runs: list[list[int]] = []
    for port in ports:
        if runs and runs[-1][1] == port - 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    for low, high in runs:
        yield f"-p udp -m udp --dport {low if low == high else f'{low}:{high}'} -j ACCEPT"


def _denied(fabric: Fabric, node: Node, family: Family) -> Iterator[str]:
    doc = fabric.desired.fabric
    for deny in doc.model.deny if doc else ():
        sources, targets = _prefixes(fabric, deny.from_), _prefixes(fabric, deny.to)
        if not (_here(fabric, node, deny.from_) or _here(fabric, node, deny.to)):
            continue
        for source in sources:
            for target in targets:
                if source.family == target.family == family:
                    comment = f'-m comment --comment "deny {deny.from_} to {deny.to}"'
                    action = f"-j REJECT --reject-with {_REFUSE[family]}"
                    yield f"-s {source} -d {target} -m conntrack --ctstate NEW {comment} {action}"


def denies(fabric: Fabric) -> list[tuple[list[Prefix], list[Prefix]]]:
    """The pairs of source and destination prefixes between which new connections are denied."""
    doc = fabric.desired.fabric
    return [(_prefixes(fabric, d.from_), _prefixes(fabric, d.to)) for d in doc.model.deny] if doc else []


def _prefixes(fabric: Fabric, name: str) -> list[Prefix]:
    if name in fabric.clients:
        return fabric.clients[name].prefixes
    return sorted(prefix for node in fabric.hosts(name) for prefix in node.prefixes)


def _here(fabric: Fabric, node: Node, name: str) -> bool:
    if name in fabric.clients:
        return fabric.clients[name].gateway == node.name
    return name in (node.name, node.site)
