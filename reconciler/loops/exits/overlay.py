"""Computes a host's resources for the tunnels of its exits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.loops.exits.providers.base import Registration
from schema.ip import endpoint_text
from schema.plan import (
    Address,
    Exit,
    ExitSlot,
    Firewall,
    Link,
    Member,
    Nexthop,
    Peer,
    Resilient,
    Resource,
    Route,
    Rule,
    SecretRef,
    Sysctl,
    Wireguard,
    family_of,
)
from schema.plan.base import Family
from schema.plan.ranges import (
    BOUND_RULES,
    BYPASS_MARK,
    EXIT_NEXTHOPS,
    EXIT_TABLES,
    EXIT_TUNNELS,
    FORWARDED_MARK,
    NAME_RULES,
    NEXTHOPS_EACH,
)

BUCKETS, IDLE_TIMER = 1024, 120
"""For the group that spreads flows: a flow stays with its gateway until it pauses for 2 minutes."""
EVERYTHING: dict[Family, str] = {"inet": "0.0.0.0/0", "inet6": "::/0"}


@dataclass(frozen=True, slots=True)
class Placed:
    """A tunnel on a device."""

    slot: ExitSlot
    session: Registration
    carrying: bool
    """Whether new flows use it."""

    @property
    def families(self) -> list[Family]:
        there = {family_of(address) for address in self.session.addresses}
        return [family for family in EVERYTHING if family in there]


@dataclass(frozen=True, slots=True)
class Held:
    """An exit with all its tunnels."""

    exit: Exit
    key: SecretRef
    """The private key of all its tunnels."""
    tunnels: Sequence[Placed]
    port: tuple[str, int] | None = None
    """A tunnel's device, and the port that its provider forwards to it."""

    @property
    def dns(self) -> tuple[str, ...]:
        """The DNS servers: the written ones, otherwise those of the gateways that carry traffic."""
        if self.exit.dns is not None:
            return self.exit.dns
        return tuple(dict.fromkeys(server for one in self.tunnels if one.carrying for server in one.session.dns))


def overlay(exits: Sequence[Held]) -> list[Resource]:
    """All resources for these exits. An exit without a tunnel has none, and the plan's refusals stay in force."""
    found: list[Resource] = []
    for held in exits:
        for placed in held.tunnels:
            found += _device(held, placed)
        for family in EVERYTHING:
            found += _routes(held, family)
        found += _ways_to_names(held)
    found += _names(exits)
    found += _ports(exits)
    return found


def _device(held: Held, placed: Placed) -> Iterator[Resource]:
    dev, session = placed.slot.dev, placed.session
    yield Link(name=dev, type="wireguard", mtu=held.exit.mtu, group=EXIT_TUNNELS.first)
    yield Wireguard(dev=dev, private_key=held.key, listen_port=placed.slot.port, fwmark=held.exit.marked.bypass)
    # Loose: the main table routes the internet through another interface.
    yield Sysctl(name=f"net/ipv4/conf/{dev}/rp_filter", value="2")
    yield Sysctl(name=f"net/ipv6/conf/{dev}/disable_ipv6", value="0" if "inet6" in placed.families else "1")
    for address in session.addresses:
        yield Address(dev=dev, address=address)
    yield Peer(
        dev=dev,
        public_key=session.public_key,
        endpoint=session.endpoint,
        allowed_ips=tuple(sorted(EVERYTHING[family] for family in placed.families)),
        keepalive=session.keepalive,
        name=session.gateway.id,
    )
    if "inet6" in placed.families:
        # Only an IPv4 socket bound to a device can send without a route, and probes come before traffic.
        yield Rule(family="inet6", priority=BOUND_RULES.first, table=placed.slot.table, oif=dev)
    for family in placed.families:
        yield Route(table=placed.slot.table, dst=EVERYTHING[family], dev=dev)


def _routes(held: Held, family: Family) -> Iterator[Resource]:
    """The route for new flows: through a tunnel, or through a group of tunnels."""
    devs = [one.slot for one in held.tunnels if one.carrying and family in one.families]
    table, dst = held.exit.table, EVERYTHING[family]
    if not devs:
        return
    if held.exit.use == 1:
        yield Route(table=table, dst=dst, dev=devs[0].dev)
        return
    for slot in devs:
        yield Nexthop(id=_number(slot.table, family), family=family, dev=slot.dev)
    members = tuple(Member(id=_number(slot.table, family)) for slot in devs)
    group = _number(table, family)
    resilient = Resilient(buckets=BUCKETS, idle_timer=IDLE_TIMER, unbalanced_timer=0)
    yield Nexthop(id=group, group=members, resilient=resilient)
    yield Route(table=table, dst=dst, nhid=group)


def _number(table: int, family: Family) -> int:
    """The number of the nexthop or group in the route of an exit's or a tunnel's table."""
    return EXIT_NEXTHOPS.first + NEXTHOPS_EACH * (table - EXIT_TABLES.first) + (family == "inet6")


def _ways_to_names(held: Held) -> Iterator[Rule]:
    """Route a gateway's own DNS server through its tunnel, even if a network of ours has the same private address."""
    servers = {server: one.slot for one in reversed(held.tunnels) if one.carrying for server in one.session.dns}
    for server, slot in sorted(servers.items()) if held.exit.dns is None else ():
        family = family_of(server)
        dst = f"{server}/{32 if family == 'inet' else 128}"
        for taker in (*held.exit.lans, *(["lo"] if held.exit.own else [])):
            yield Rule(family=family, priority=NAME_RULES.first, table=slot.table, dst=dst, iif=taker)


def _names(exits: Sequence[Held]) -> Iterator[Resource]:
    """Redirect the DNS queries of an exit's users to its servers, whichever server they ask on the internet."""
    for family in EVERYTHING:
        arriving: list[str] = []
        leaving: list[str] = []
        for held in exits:
            servers = [server for server in held.dns if family_of(server) == family]
            if not servers or not any(one.carrying and family in one.families for one in held.tunnels):
                continue
            ours = [prefix for prefix in held.exit.ours if family_of(prefix) == family]
            for lan in held.exit.lans:
                if not held.exit.own:
                    # This host would forward their queries by another path than the exit.
                    arriving += [f"-i {lan} {rule}" for rule in _dnat(servers[0], "-m addrtype --dst-type LOCAL ")]
                arriving += [f"-d {prefix} -i {lan} -j RETURN" for prefix in ours]
                arriving.append(f"-i {lan} -m addrtype --dst-type LOCAL -j RETURN")
                arriving += [f"-i {lan} {rule}" for rule in _dnat(servers[0])]
            if held.exit.own:
                leaving += [f"-d {prefix} -j RETURN" for prefix in [*ours, _LOOPBACK[family]]]
                # Packets with the mark are the agent's, which bypass the exit.
                marked = f"-m mark ! --mark {held.exit.marked.match(BYPASS_MARK.first)} "
                leaving += _dnat(servers[0], marked)
        if arriving:
            yield _chain(family, "PREROUTING", arriving)
        if leaving:
            yield _chain(family, "OUTPUT", leaving)


def _ports(exits: Sequence[Held]) -> Iterator[Resource]:
    """Accept traffic to a forwarded port; the plan refuses all other unrequested traffic from exits."""
    for family in EVERYTHING:
        rules = []
        for held in exits:
            placed = next((one for one in held.tunnels if held.port and one.slot.dev == held.port[0]), None)
            if held.port is None or placed is None or family not in placed.families:
                continue
            dev, port = held.port
            mark = f"-j MARK --set-xmark {held.exit.marked.put(FORWARDED_MARK.first)}"
            rules += [f"-i {dev} -p {p} -m {p} --dport {port} {mark}" for p in ("tcp", "udp")]
        if rules:
            yield Firewall(
                family=family, table="mangle", chain="GITWAN-EXIT-PORT", hook="PREROUTING", rules=tuple(rules)
            )


_LOOPBACK: dict[Family, str] = {"inet": "127.0.0.0/8", "inet6": "::1/128"}


def _dnat(server: str, where: str = "") -> list[str]:
    to = endpoint_text(server, 53)
    return [f"-p {p} -m {p} --dport 53 {where}-j DNAT --to-destination {to}" for p in ("udp", "tcp")]


def _chain(family: Family, hook: str, rules: list[str]) -> Firewall:
    return Firewall.model_validate(
        {"family": family, "table": "nat", "chain": f"GITWAN-EXIT-{hook}", "hook": hook, "rules": rules}
    )
