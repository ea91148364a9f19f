"""What the chains and rules of a plan do with a packet, as the kernel would: an interpreter of the words that they use.

`walk.py` says where packets go that may; this says which may not. A word that it does not know fails the test.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from schema.plan import Firewall, Resource, Route, Rule
from schema.plan.base import Family

FINAL = ("ACCEPT", "DROP", "REJECT", "MASQUERADE", "DNAT")
WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Packet:
    """One packet, and what conntrack knows of its flow."""

    target: str = "192.0.2.99"
    source: str = "192.0.2.1"
    into: str = ""
    """The interface that it came in by; nothing for one that begins here."""
    out: str = ""
    protocol: str = "tcp"
    ports: tuple[int, int] = (40000, 443)
    flags: frozenset[str] = frozenset({"SYN"})
    icmp: int = 128
    state: str = "NEW"
    reply: bool = False
    mark: int = 0
    connmark: int = 0
    local: bool = False
    """Whether its target is an address of this host."""
    agent: bool = False
    """Whether the agent's process sends it."""

    @property
    def family(self) -> Family:
        return "inet6" if ":" in self.target else "inet"


class Judge:
    """The chains and policy rules of one host. `groups` are those of its interfaces, `agent` the agent's group."""

    def __init__(self, held: Iterable[Resource], groups: Mapping[str, int], agent: int = 59989) -> None:
        held = list(held)
        self.chains = [one for one in held if isinstance(one, Firewall)]
        self.rules = [one for one in held if isinstance(one, Rule)]
        self.routes = [one for one in held if isinstance(one, Route)]
        self.groups, self.agent = groups, agent

    def verdicts(self, hook: str, packet: Packet, table: str = "filter") -> set[str]:
        """What becomes of it: RETURN where our chains leave it to others. In whichever order our chains are asked."""
        chains = self._chains(hook, packet, table)
        return {self._through(order, packet)[0] for order in (chains, chains[::-1])}

    def marked(self, hook: str, packet: Packet) -> Packet:
        """The packet with the marks that it gets."""
        return self._through(self._chains(hook, packet, "mangle"), packet)[1]

    def targets(self, hook: str, packet: Packet, table: str) -> list[str]:
        """Every target that it meets, also of those that only change it."""
        return self._through(self._chains(hook, packet, table), packet)[2]

    def sent(self, packet: Packet) -> tuple[Packet, set[str]]:
        """What this host sends: with its marks, and what becomes of it."""
        marked = self.marked("OUTPUT", packet)
        return marked, self.verdicts("OUTPUT", marked)

    def looked_up(self, packet: Packet) -> list[int]:
        """The tables that are asked for a way, until one refuses; main's default route is not asked by ours."""
        asked = []
        for rule in sorted(self.rules, key=lambda rule: rule.priority):
            if rule.family != packet.family or not self._fits(rule, packet):
                continue
            asked.append(rule.table)
            if any(self._refuses(route, rule.table, packet) for route in self.routes):
                break
        return asked

    def refused_by_route(self, packet: Packet) -> bool:
        """Whether it finds no way before main's default route, while no exit has a tunnel."""
        tables = self.looked_up(packet)
        return any(self._refuses(route, tables[-1], packet) for route in self.routes) if tables else False

    def _refuses(self, route: Route, table: int, packet: Packet) -> bool:
        if route.table != table or route.type != "unreachable" or (":" in route.dst) != (":" in packet.target):
            return False
        return ip_address(packet.target) in ip_network(route.dst)

    def _fits(self, rule: Rule, packet: Packet) -> bool:
        """As fib_rule_match() has it: what is turned round is all of it, the interface too."""
        assert rule.src is rule.dst is rule.oif is None, rule.describe()
        mask = rule.fwmask if rule.fwmask is not None else WORD if rule.fwmark else 0
        marked = packet.mark & mask == (rule.fwmark or 0)
        came = rule.iif is None or rule.iif == (packet.into or "lo")
        return (marked and came) != rule.invert

    def _chains(self, hook: str, packet: Packet, table: str) -> list[Firewall]:
        return [c for c in self.chains if (c.family, c.table, c.hook) == (packet.family, table, hook)]

    def _through(self, chains: Iterable[Firewall], packet: Packet) -> tuple[str, Packet, list[str]]:
        met: list[str] = []
        for chain in chains:
            for text in chain.rules:
                target, packet = self._rule(text, packet)
                met += [target] if target else []
                if target in FINAL:
                    return target, packet, met
                if target == "RETURN":
                    break
        return "RETURN", packet, met

    def _rule(self, text: str, packet: Packet) -> tuple[str, Packet]:
        """The target of a rule, where all of it fits, and the packet with what it sets."""
        match, _, action = text.partition("-j ")
        if not self._matches(_words(match), packet):
            return "", packet
        target, *words = action.split()
        if target in ("MARK", "CONNMARK"):
            assert words[0] == "--set-xmark", text
            value, mask = (int(word, 16) for word in words[1].split("/"))
            name = "mark" if target == "MARK" else "connmark"
            packet = replace(packet, **{name: getattr(packet, name) & ~mask ^ value})
        elif target == "REJECT":
            assert words[0] == "--reject-with" and words[1].startswith("icmp6") == (packet.family == "inet6"), text
        elif target == "DNAT":
            assert words[0] == "--to-destination" and words[1].startswith("[") == (packet.family == "inet6"), text
        else:
            assert words in ([], ["--clamp-mss-to-pmtu"]) and target in (*FINAL, "RETURN", "TCPMSS"), text
        return target, packet

    def _matches(self, words: list[str], packet: Packet) -> bool:
        left, module = list(words), ""
        while left:
            word = left.pop(0)
            if word == "-m":
                module = left.pop(0)
                assert module in MODULES, module
            elif word == "--tcp-flags":
                looked_at, wanted = (set(left.pop(0).split(",")) for _ in range(2))
                if packet.protocol != "tcp" or packet.flags & looked_at != wanted:
                    return False
            elif word == "!":
                assert left[0] == "--mark", "nothing else is turned round"
                if self._marked(module, left.pop(1), packet):
                    return False
                left.pop(0)
            elif word == "--mark":
                if not self._marked(module, left.pop(0), packet):
                    return False
            elif word != "--suppl-groups" and not self._fits_word(word, left.pop(0), packet):
                return False
        return True

    def _marked(self, module: str, text: str, packet: Packet) -> bool:
        value, _, mask = text.partition("/")
        found: int = getattr(packet, module)
        return found & int(mask or hex(WORD), 16) == int(value, 16)

    def _fits_word(self, word: str, value: str, packet: Packet) -> bool:
        if word.startswith("--"):
            return self._fits_match(word, value, packet)
        match word:
            case "-i" | "-o":
                return value == (packet.into if word == "-i" else packet.out)
            case "-s" | "-d":
                return ip_address(packet.source if word == "-s" else packet.target) in ip_network(value)
            case "-p":
                return value == packet.protocol
        raise AssertionError(f"unknown match {word}")

    def _fits_match(self, word: str, value: str, packet: Packet) -> bool:
        match word:
            case "--sport" | "--dport":
                low, _, high = value.partition(":")
                return int(low) <= packet.ports[word == "--dport"] <= int(high or low)
            case "--icmpv6-type":
                return packet.icmp == int(value)
            case "--src-group" | "--dst-group":
                dev = packet.into if word == "--src-group" else packet.out
                return self.groups.get(dev, 0) == int(value, 16)
            case "--ctstate":
                return packet.state in value.split(",")
            case "--ctdir":
                return packet.reply == (value == "REPLY")
            case "--gid-owner":
                return packet.agent and int(value) == self.agent
            case "--dst-type":
                assert value == "LOCAL"
                return packet.local
            case "--comment":
                return True
        raise AssertionError(f"unknown match {word}")


ip_network, ip_address = cache(ipaddress.ip_network), cache(ipaddress.ip_address)


@cache
def _words(text: str) -> list[str]:
    return shlex.split(text)


MODULES = {"addrtype", "devgroup", "mark", "connmark", "conntrack", "owner", "udp", "tcp", "icmp6", "comment"}
