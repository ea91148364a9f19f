"""What a host with exits holds whether or not its agent runs: which traffic may leave by nothing but an exit.

The agent adds the tunnels, and the routes by them. Until then, and when it is gone, all that is here refuses what has
no way: so nothing leaks at boot, while a gateway is chosen, or after a crash.

A LAN's traffic is refused twice: by a route behind the exit's own table, and where it would be forwarded to the
underlay. The host's own is refused where it would leave by the underlay without the mark of what may. It is not
refused by a route, because a route is looked up before the agent's packets have their mark.
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
        # A neighbour is asked at its own address, too, whether it is still there (RFC 4861, 7.3.1).
        "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
        "-p ipv6-icmp -m icmp6 --icmpv6-type 136 -j RETURN",
    ),
}
"""What a host needs to have an underlay at all: DHCP and neighbour discovery."""
_LOCAL: dict[str, tuple[str, ...]] = {
    family: (*(str(prefix) for prefix in NOT_GLOBAL if prefix.family == family), multicast)
    for family, multicast in (("inet", "224.0.0.0/4"), ("inet6", "ff00::/8"))
}
"""Networks that other interfaces of a host lead to, as those of its containers, and that are not the internet."""


def exits(fabric: Fabric, node: Node, behind: PrefixesByEdge) -> Iterator[Resource]:
    """Rules, the routes that refuse, and our chains."""
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
            # What the agent sends was given the source address of the exit that it would have taken.
            posts.append(f"-o {node.model.underlay.dev} {_OWNER} -j MASQUERADE")
        yield _chain(family, "nat", "POSTROUTING", posts)


def _sysctls(underlay: str) -> Iterator[Resource]:
    """What comes in by the underlay carries the mark, so that its way back is looked up with it: by the reverse path
    filter, for the answer to a connection, and for an echo."""
    yield Sysctl(name=f"net/ipv4/conf/{underlay}/src_valid_mark", value="1")
    yield Sysctl(name="net/ipv4/tcp_fwmark_accept", value="1")
    yield Sysctl(name="net/ipv4/fwmark_reflect", value="1")
    yield Sysctl(name="net/ipv6/fwmark_reflect", value="1")


def _rules(node: Node, marks: Marks, family: Family) -> Iterator[Rule]:
    # Whatever main knows better than by its default route goes there: the host's own networks, and ours.
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
            table, bypass = EXIT_TABLES.at(n), marks.at(BYPASS)
            yield Rule(
                family=family,
                priority=TAKERS,
                table=table,
                iif="lo",
                fwmark=bypass,
                fwmask=marks.fwmask,
                invert=True,
            )


def _filter(node: Node, marks: Marks, family: Family) -> Iterator[Firewall]:
    underlay, refuse = node.model.underlay.dev, REFUSE[family]
    guarded = [exit for exit in node.exits if exit.model.kill_switch]
    own = any(exit.own for exit in guarded)
    known = [f"{_FROM} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"]
    if any(exit.model.port_forward for exit in node.exits):
        # Whether it is answered here, or by somebody to whom this host translates it.
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
        # Whom this host would ask for them, it would ask by the underlay.
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
    """What is forwarded to the underlay is this host's own, as that of its containers, but for what comes from
    networks that take no exit, and for answers."""
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
        # A connection that this host began before it had an exit is none that came in, however late it is noticed.
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
    """What the agent has to find a gateway for."""
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
    """The fields that a plan has by the names in which people write them."""
    return {name: getattr(written, name) for name in plan.model_fields if name in type(written).model_fields}


def _slots(n: int, exit: HostExit) -> tuple[ExitSlot, ...]:
    ports = enumerate(zip(exit.devs, exit.ports, strict=True))
    return tuple(ExitSlot(dev=dev, port=port, table=slot_table(n, k)) for k, (dev, port) in ports)


def _named(fabric: Fabric, exit: HostExit, names: Iterable[str]) -> tuple[str, ...]:
    """Gateways by the names of sites or hosts of ours."""
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
