"""The part of an exit that a host holds without its agent: it decides which traffic may leave only through an exit.

The agent adds the tunnels and the routes through them. Without these, everything here refuses traffic that has no
route. So nothing leaks at boot, while a gateway is chosen, or after a crash.

A LAN's traffic is refused twice: by a route behind the exit's own table, and when it would be forwarded to the
underlay. The host's own traffic is refused if it would leave through the underlay without the permitting mark. A route
cannot refuse it, because the kernel looks up the route before the agent's packets get their mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from compiler.agentless.lan_routes import behind as everything
from compiler.fabric.model import Fabric, HostExit, Node, own_key
from compiler.fabric.slots import BYPASS, FORWARDED, draining, slot_mark, slot_table
from compiler.plan.firewall import FAMILIES, FROM_OURS, TO_OURS
from compiler.plan.site_exits import CLAMP, REFUSE, gateways, mtu
from compiler.stages.routing import PrefixesByEdge
from schema.desired import Document
from schema.ip import NOT_GLOBAL, Interface
from schema.plan import Exit, ExitSlot, Firewall, HealthSettings, Resource, Route, Rule, Sysctl, WrittenGateway
from schema.plan.base import Family, Model
from schema.plan.exits import SITE_EXITS
from schema.plan.marks import Marks
from schema.plan.ranges import (
    AGENT,
    EXIT_TABLES,
    EXIT_TUNNELS,
    GUARD_METRIC,
    MAIN_RULES,
    MARKED_RULES,
    REFUSED_TABLE,
    REFUSING_RULES,
    TAKER_RULES,
)

REFUSED = REFUSED_TABLE.first
MAIN, MARKED, TAKERS, LAST = MAIN_RULES.first, MARKED_RULES.first, TAKER_RULES.first, REFUSING_RULES.first

_FROM, _TO = f"-m devgroup --src-group {EXIT_TUNNELS.first:#x}", f"-m devgroup --dst-group {EXIT_TUNNELS.first:#x}"
_OWNER = f"-m owner --gid-owner {AGENT} --suppl-groups"
_LINK_LOCAL: dict[str, tuple[str, ...]] = {
    "inet": ("-d 169.254.0.0/16 -j RETURN", "-p udp -m udp --sport 68 --dport 67 -j RETURN"),
    "inet6": (
        "-d fe80::/10 -j RETURN",
        "-d ff02::/16 -j RETURN",
        # A neighbour is also asked at its own address whether it is still there (RFC 4861, 7.3.1).
        "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
        "-p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN",
    ),
}
"""What a host needs for its underlay: DHCP and neighbour discovery."""
_LOCAL: dict[str, tuple[str, ...]] = {
    family: (*(str(prefix) for prefix in NOT_GLOBAL if prefix.family == family), multicast)
    for family, multicast in (("inet", "224.0.0.0/4"), ("inet6", "ff00::/8"))
}
"""Networks that are not the internet, and that other interfaces of a host may lead to, such as those of containers."""


def exits(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Resource]:
    """The rules, the refusing routes, and our chains."""
    if node.marks is None:
        return
    own = [exit for exit in node.exits if exit.own]
    if own:
        yield from _sysctls(node.model.underlay.dev)
    for family in FAMILIES:
        yield from _rules(node, node.marks, family)
        if any(exit.lans and exit.model.kill_switch for exit in node.exits):
            dst = "0.0.0.0/0" if family == "inet" else "::/0"
            yield Route(table=REFUSED, dst=dst, type="unreachable", metric=GUARD_METRIC)
        yield from _filter(node, node.marks, family)
        yield from _mangle(node, node.marks, family)
        posts = [f"{_TO} -j MASQUERADE"]
        if own:
            # The agent's packets got the source address of the exit that they would otherwise have used.
            posts.append(f"-o {node.model.underlay.dev} {_OWNER} -j MASQUERADE")
        yield _chain(family, "nat", "POSTROUTING", posts)


def _sysctls(underlay: str) -> Iterator[Resource]:
    """Incoming underlay packets carry the mark, and their return path is looked up with it: by the reverse path filter,
    for replies on accepted connections, and for echo replies."""
    yield Sysctl(name=f"net/ipv4/conf/{underlay}/src_valid_mark", value="1")
    yield Sysctl(name="net/ipv4/tcp_fwmark_accept", value="1")
    yield Sysctl(name="net/ipv4/fwmark_reflect", value="1")
    yield Sysctl(name="net/ipv6/fwmark_reflect", value="1")


def _rules(node: Node, marks: Marks, family: Family) -> Iterator[Rule]:
    # The main table routes destinations with a more specific route than the default: the host's own networks, and ours.
    yield Rule(family=family, priority=MAIN, table=254, suppress_prefixlength=0)
    for n, exit in enumerate(node.exits):
        for k in draining(exit):
            mark = marks.at(slot_mark(n, k))
            yield Rule(family=family, priority=MARKED, table=slot_table(n, k), fwmark=mark, fwmask=marks.fwmask)
        for lan in exit.lans:
            yield Rule(family=family, priority=TAKERS, table=EXIT_TABLES.at(n), iif=lan)
            if exit.model.kill_switch:
                yield Rule(family=family, priority=LAST, table=REFUSED, iif=lan)
        if exit.own:
            # Not one rule with `not`: it would also invert `iif lo`, and match what others send through this host.
            for mark, mask in marks.others(BYPASS):
                table = EXIT_TABLES.at(n)
                yield Rule(family=family, priority=TAKERS, table=table, iif="lo", fwmark=mark, fwmask=mask)


def _filter(node: Node, marks: Marks, family: Family) -> Iterator[Firewall]:
    underlay, refuse = node.model.underlay.dev, REFUSE[family]
    guarded = [exit for exit in node.exits if exit.model.kill_switch]
    own = any(exit.own for exit in guarded)
    known = [f"{_FROM} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"]
    if any(exit.model.port_forward for exit in node.exits):
        # Accept it, whether this host answers or a host that it translates to.
        known.append(f"{_FROM} -m mark --mark {marks.match(FORWARDED)} -j ACCEPT")
    forward = [f"-i {lan} -o {underlay} {refuse}" for exit in guarded for lan in exit.lans]
    if own:
        forward += _containers(node, refuse)
    forward += [*known, f"{_FROM} -j DROP"]
    forward += [f"-i {lan} {_TO} -j ACCEPT" for exit in node.exits for lan in exit.lans]
    for lan in dict.fromkeys(lan for exit in guarded for lan in exit.lans):
        forward += [f"-d {prefix} -i {lan} -j RETURN" for prefix in _LOCAL[family]]
        forward += [f"-i {lan} -o {other} -j RETURN" for other in node.model.lans if other != lan]
        forward += [f"-i {lan} {TO_OURS} -j RETURN", f"-i {lan} {refuse}"]
    yield _chain(family, "filter", "FORWARD", [*forward, f"{_TO} {refuse}"])
    entering = [*known, f"{_FROM} -j DROP"]
    if not own:
        # This host would forward their DNS queries through the underlay.
        entering += [f"-i {lan} {dns} {refuse}" for exit in guarded for lan in exit.lans for dns in DNS]
    yield _chain(family, "filter", "INPUT", entering)
    if own:
        leaving = [
            f"-m mark --mark {marks.match(BYPASS)} -j RETURN",
            "-o lo -j RETURN",
            f"{_TO} -j RETURN",
            f"{TO_OURS} -j RETURN",
        ]
        leaving += [f"-o {dev} -j RETURN" for dev in [*node.model.lans, *([SITE_EXITS] if node.served_exits else [])]]
        leaving += [*_LINK_LOCAL[family], f"-o {underlay} {refuse}"]
        leaving += [*(f"-d {prefix} -j RETURN" for prefix in _LOCAL[family]), refuse]
        yield _chain(family, "filter", "OUTPUT", leaving)


def _containers(node: Node, refuse: str) -> Iterator[str]:
    """Traffic forwarded to the underlay counts as the host's own, such as that of its containers, except for traffic
    from networks without an exit, and for replies."""
    underlay = node.model.underlay.dev
    guarded = {lan for exit in node.exits if exit.model.kill_switch for lan in exit.lans}
    free = [lan for lan in node.model.lans if lan not in guarded]
    for dev in [*free, *([SITE_EXITS] if node.served_exits else [])]:
        yield f"-i {dev} -o {underlay} -j RETURN"
    yield f"-o {underlay} {FROM_OURS} -j RETURN"
    yield f"-o {underlay} -m conntrack --ctdir REPLY -j RETURN"
    yield f"-o {underlay} {refuse}"


DNS = ("-p udp -m udp --dport 53", "-p tcp -m tcp --dport 53")


def _mangle(node: Node, marks: Marks, family: Family) -> Iterator[Firewall]:
    underlay, mark = node.model.underlay.dev, f"-j MARK --set-xmark {marks.put(BYPASS)}"
    yield _chain(family, "mangle", "FORWARD", [f"-p tcp {_TO} {CLAMP}", f"-p tcp {_FROM} {CLAMP}"])
    arriving: list[str] = []
    leaving: list[str] = []
    staying: list[str] = []
    if any(exit.own for exit in node.exits):
        arriving.append(f"-i {underlay} {mark}")
        # A connection that this host began before it had an exit is not incoming, however late conntrack sees it.
        for kind in ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "-p udp"):
            new = f"-i {underlay} {kind} -m conntrack --ctstate NEW"
            arriving.append(f"{new} -j CONNMARK --set-xmark {marks.put(BYPASS)}")
        leaving.append(f"-m mark --mark {marks.none} {_OWNER} {mark}")
        leaving.append(f"-m connmark --mark {marks.match(BYPASS)} {mark}")
    for n, exit in enumerate(node.exits):
        for k in draining(exit):
            own, dev = slot_mark(n, k), exit.devs[k]
            kept = f"-m connmark --mark {marks.match(own)} -j MARK --set-xmark {marks.put(own)}"
            arriving += [f"-i {lan} {kept}" for lan in exit.lans]
            leaving += [kept] if exit.own else []
            staying.append(f"-o {dev} -m connmark --mark {marks.none} -j CONNMARK --set-xmark {marks.put(own)}")
    for hook, rules in (("PREROUTING", arriving), ("OUTPUT", leaving), ("POSTROUTING", staying)):
        if rules:
            yield _chain(family, "mangle", hook, rules)


def _chain(family: Family, table: Literal["filter", "nat", "mangle"], hook: str, rules: list[str]) -> Firewall:
    return Firewall.model_validate(
        {"family": family, "table": table, "chain": f"GITWAN-EXIT-{hook}", "hook": hook, "rules": rules}
    )


def runtime_exits(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Exit]:
    """The exits that the agent must find gateways for."""
    ours = [*node.networks, *everything(fabric, behind.values())]
    lans = [address.network for lan in node.model.lans.values() for address in lan.addresses]
    for n, exit in enumerate(node.exits):
        model, facts = exit.model, exit.model.facts
        by_site = facts.needs == "sites"
        decided = {
            "name": exit.name,
            "credentials": exit.credentials,
            "gateways": tuple(gateways(fabric, exit) if by_site else _gateways(exit)) or None,
            "key": own_key(node.key) if facts.host_key else None,
            "health": _health(exit),
            "dns": None if model.dns == "provider" else model.dns,
            "table": EXIT_TABLES.at(n),
            "slots": _slots(n, exit),
            "mtu": mtu(fabric, exit),
            "lans": exit.lans,
            "own": exit.own,
            "ours": tuple(str(prefix) for prefix in sorted({*ours, *lans})),
            "marks": node.marks,
        }
        if by_site:
            decided |= {name: _named(fabric, exit, getattr(model, name)) for name in ("prefer", "ignore")}
        yield Exit(**_same(model, Exit) | decided)


def _same(written: Document, plan: type[Model]) -> dict[str, Any]:
    """The fields that have the same name in the document and in the plan."""
    return {name: getattr(written, name) for name in plan.model_fields if name in type(written).model_fields}


def _slots(n: int, exit: HostExit) -> tuple[ExitSlot, ...]:
    ports = enumerate(zip(exit.devs, exit.ports, strict=True))
    return tuple(ExitSlot(dev=dev, port=port, table=slot_table(n, k)) for k, (dev, port) in ports)


def _named(fabric: Fabric, exit: HostExit, names: Iterable[str]) -> tuple[str, ...]:
    """Gateways, from the names of our sites or hosts."""
    hosts = {host.name for name in names for host in fabric.hosts(name)}
    return tuple(name for name in exit.gateways if name in hosts)


def _gateways(exit: HostExit) -> Iterator[WrittenGateway]:
    for name, gateway in exit.model.gateways.items():
        yield WrittenGateway(
            name=name,
            endpoint=gateway.endpoint,
            public_key=gateway.public_key,
            addresses=tuple(str(_host(address)) for address in gateway.addresses),
            dns=gateway.dns,
            country=gateway.country or "",
        )


def _host(address: Interface) -> str:
    return f"{address.address}/{address.length}"


def _health(exit: HostExit) -> HealthSettings:
    form, value = exit.model.health.degraded
    limit = {"factor": value if form == "x" else None, "threshold": value if form == "s" else None}
    return HealthSettings(**_same(exit.model.health, HealthSettings) | limit)
