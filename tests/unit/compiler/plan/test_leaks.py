"""What a host with exits lets pass and what it refuses, judged packet by packet from what is declared.

Every packet that matters is put to the chains and rules of hosts with exits drawn at random, before the agent has
brought up any tunnel, and after: so it is a leak that fails here, and no difference to how the rules were written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.generate import key
from compiler.compile import compile_files
from schema.plan import Exit, HostPlan, Rule, Sysctl
from schema.plan.marks import DEFAULT
from schema.plan.ranges import EXIT_TUNNELS, TUNNELS
from tests.unit.compiler.verdict import Judge, Packet

UNDERLAY, OURS, ELSEWHERE, CONTAINERS = "eth0", "wg-b-1", "eth9", "docker0"
LANS = ("lan0", "lan1", "lan2")
BYPASS = DEFAULT.bypass
INTERNET = ("198.51.100.99", "2600::99")
PRIVATE = ("10.99.0.1", "172.31.0.1", "192.168.99.1", "100.64.9.9", "fd12::9", "169.254.9.9", "fe80::9")
REFUSED = {"REJECT"}
ADDRESSES = ("10.64.0.2", "fd00:64::2")


@dataclass(frozen=True)
class World:
    """A host with exits; which LAN, interface of others and whether itself takes which of them."""

    exits: dict[str, dict[str, Any]]
    marks: str | None = None

    @cached_property
    def plan(self) -> HostPlan:
        lans = {lan: [f"192.168.{n}.1/24", f"fd00:{n}::1/64"] for n, lan in enumerate(LANS)}
        host = {"underlay": {"interface": UNDERLAY, "addresses": "dhcp"}, "lans": lans, "exits": self.exits}
        far = {"underlay": {"interface": "eno1", "addresses": ["203.0.113.9/24"]}, "lans": {"eno2": ["10.20.0.1/16"]}}
        fabric = {"fabric": "wan", "version": 1, "links": [{"between": ["home", "b"]}]}
        files = {
            "fabric.yaml": json.dumps(fabric | ({"marks": self.marks} if self.marks else {})),
            "home.yaml": json.dumps({"site": "home", "kind": "edge", "hosts": {"nas": host}}),
            "b.yaml": json.dumps({"site": "b", "kind": "datacenter", "hosts": {"b-gw": far}}),
            "keys/nas.pub": key("nas"),
            "keys/b-gw.pub": key("b-gw"),
        }
        result = compile_files({path: text.encode() for path, text in files.items()})
        assert not result.failed, [problem.text() for problem in result.problems]
        return result.plan("nas")

    @cached_property
    def judge(self) -> Judge:
        slots = {slot.dev: EXIT_TUNNELS.first for exit in self.runtime for slot in exit.slots}
        return Judge(self.plan.resources, {OURS: TUNNELS.first, **slots})

    @property
    def runtime(self) -> tuple[Exit, ...]:
        return self.plan.runtime.exits or ()

    def takers(self, *, guarded: bool | None = None) -> dict[str, Exit]:
        """Who takes which exit: interfaces, and `self`."""
        return {
            taker.removeprefix("dev "): exit
            for exit in self.runtime
            for taker in self.exits[exit.name]["for"]
            if guarded is None or exit.kill_switch == guarded
        }

    @property
    def free(self) -> list[str]:
        return [dev for dev in (*LANS, CONTAINERS) if dev not in self.takers()]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    exits: dict[str, dict[str, Any]] = {}
    for taker in draw(st.permutations([*LANS, f"dev {CONTAINERS}", "self"])):
        name = draw(st.sampled_from(["", "e0", "e1", "e2"]))
        if name:
            exits.setdefault(name, {"for": []})["for"].append(taker)
    for n, exit in enumerate(exits.values()):
        there = {"endpoint": f"198.51.100.{n + 1}:51820", "public_key": key(str(n)), "addresses": list(ADDRESSES)}
        exit |= {"provider": "static", "gateways": {"g": there}, "dns": "9.9.9.9"}
        exit |= {"kill_switch": draw(st.booleans()), "use": draw(st.integers(1, 2))}
        exit["on_switch"] = draw(st.sampled_from(["move", "drain"]))
    return World(exits or {"e0": {**_plain(), "for": ["lan0"]}})


def _plain() -> dict[str, Any]:
    there = {"endpoint": "198.51.100.1:51820", "public_key": key("0"), "addresses": list(ADDRESSES)}
    return {"provider": "static", "gateways": {"g": there}, "dns": "9.9.9.9"}


def packets(*targets: str, **more: Any) -> list[Packet]:
    """Of both protocols, new and of a flow that goes on, in both directions of it, marked in every way."""
    return [
        Packet(target, protocol=protocol, state=state, reply=reply, mark=mark, flags=frozenset({flag}), **more)
        for target in targets
        for protocol, flag in (("tcp", "SYN"), ("tcp", "ACK"), ("udp", "SYN"))
        for state, reply in (("NEW", False), ("ESTABLISHED", False), ("ESTABLISHED", True))
        for mark in (0, BYPASS, 0xC000)
    ]


HOSTS = settings(max_examples=12, deadline=None)


@HOSTS
@given(worlds())
def test_nothing_of_a_guarded_network_leaves_by_the_underlay(world: World) -> None:
    for taker in world.takers(guarded=True).keys() - {"self"}:
        for packet in packets(*INTERNET, *PRIVATE, into=taker, out=UNDERLAY):
            assert world.judge.verdicts("FORWARD", packet) == REFUSED, (taker, packet)
        for packet in packets(*INTERNET, into=taker, out=ELSEWHERE):
            assert world.judge.verdicts("FORWARD", packet) == REFUSED, (taker, packet)
        for packet in packets(*INTERNET, into=taker):
            assert world.judge.refused_by_route(packet), (taker, packet)


@HOSTS
@given(worlds())
def test_everybody_is_led_to_the_exit_that_they_take_and_to_no_other(world: World) -> None:
    tables = {exit.table for exit in world.runtime}
    for dev in (*LANS, CONTAINERS, OURS, UNDERLAY):
        taken = {exit.table for taker, exit in world.takers().items() if taker == dev}
        for packet in packets(*INTERNET, into=dev):
            assert set(world.judge.looked_up(packet)) & tables == taken, (dev, packet)
    own = {exit.table for taker, exit in world.takers().items() if taker == "self"}
    for target, mark in product(INTERNET, (0, 0xC000, 0x54, 0xFF, BYPASS | 0xC000)):
        asked = set(world.judge.looked_up(Packet(target, mark=mark))) & tables
        assert asked == (set() if mark & DEFAULT.mask == BYPASS else own), mark


@HOSTS
@given(worlds())
def test_what_takes_no_exit_is_not_touched(world: World) -> None:
    for dev in {*world.free, *world.takers(guarded=False)} - {"self"}:
        contained = dev == CONTAINERS and "self" in world.takers(guarded=True)
        for packet in packets(*INTERNET, *PRIVATE, into=dev, out=UNDERLAY):
            refused = contained and not packet.reply
            assert world.judge.verdicts("FORWARD", packet) == (REFUSED if refused else {"RETURN"}), (dev, packet)
    for packet in packets(*INTERNET, *PRIVATE, into=OURS, out=UNDERLAY):
        assert not world.judge.verdicts("FORWARD", packet) & {"REJECT", "DROP"}


@HOSTS
@given(worlds())
def test_a_network_reaches_its_exit_what_is_private_and_what_is_ours(world: World) -> None:
    tunnels = [slot.dev for exit in world.runtime for slot in exit.slots]
    for taker in world.takers().keys() - {"self"}:
        for packet in packets(*INTERNET, into=taker, out=tunnels[0]):
            assert world.judge.verdicts("FORWARD", packet) == {"ACCEPT"}
            assert "TCPMSS" in world.judge.targets("FORWARD", replace(packet, protocol="tcp"), "mangle") or (
                packet.flags != {"SYN"}
            )
            assert world.judge.targets("POSTROUTING", packet, "nat") == ["MASQUERADE"]
        for out in {OURS, ELSEWHERE, *LANS} - {taker}:
            for packet in [Packet(target, into=taker, out=out) for target in PRIVATE]:
                assert not world.judge.verdicts("FORWARD", packet) & {"REJECT", "DROP"}
            if out in (OURS, *LANS):
                for packet in [Packet(target, into=taker, out=out) for target in INTERNET]:
                    assert not world.judge.verdicts("FORWARD", packet) & {"REJECT", "DROP"}
    for dev in world.free:
        for packet in packets(*INTERNET, into=dev, out=tunnels[0]):
            assert world.judge.verdicts("FORWARD", packet) == REFUSED
        for packet in packets(*INTERNET, into=dev, out=UNDERLAY):
            assert not world.judge.targets("POSTROUTING", packet, "nat")


@HOSTS
@given(worlds())
def test_nobody_comes_in_by_an_exit_but_with_an_answer(world: World) -> None:
    tunnel = world.runtime[0].slots[0].dev
    for target in (*PRIVATE, *INTERNET):
        for out, mark in product((OURS, *LANS, ELSEWHERE, UNDERLAY), (0, BYPASS, 0x57)):
            new = Packet(target, into=tunnel, out=out, mark=mark)
            assert world.judge.verdicts("FORWARD", new) <= {"DROP", "REJECT"}, new
        for lan in LANS:
            for state in ("ESTABLISHED", "RELATED"):
                assert world.judge.verdicts("FORWARD", Packet(target, into=tunnel, out=lan, state=state)) == {"ACCEPT"}
        for port, mark in product((22, 53, 5000), (0, BYPASS)):
            for protocol in ("tcp", "udp"):
                new = Packet(target, into=tunnel, protocol=protocol, ports=(40000, port), mark=mark)
                if port != 5000 or protocol == "tcp":
                    assert world.judge.verdicts("INPUT", new) == {"DROP"}
                assert world.judge.verdicts("INPUT", replace(new, state="ESTABLISHED")) == {"ACCEPT"}


@HOSTS
@given(worlds())
def test_of_the_hosts_own_only_what_has_the_mark_leaves_by_the_underlay(world: World) -> None:
    taken = world.takers().get("self")
    guarded = taken is not None and taken.kill_switch
    for packet in packets(*INTERNET, *PRIVATE[:5], out=UNDERLAY):
        passes = not guarded or packet.mark & DEFAULT.mask == BYPASS
        assert world.judge.verdicts("OUTPUT", packet) == ({"RETURN"} if passes else REFUSED), packet
    for packet in packets(*INTERNET, out=ELSEWHERE):
        passes = not guarded or packet.mark & DEFAULT.mask == BYPASS
        assert world.judge.verdicts("OUTPUT", packet) == ({"RETURN"} if passes else REFUSED), packet
    for out in ("lo", OURS, *LANS, *(slot.dev for exit in world.runtime for slot in exit.slots)):
        for packet in packets(*INTERNET, *PRIVATE, out=out):
            assert world.judge.verdicts("OUTPUT", packet) == {"RETURN"}
    for packet in packets(*PRIVATE, out=ELSEWHERE):
        assert world.judge.verdicts("OUTPUT", packet) == {"RETURN"}


@HOSTS
@given(worlds())
def test_a_host_gets_its_address_and_finds_its_router_whatever_it_takes(world: World) -> None:
    needed = [
        Packet("255.255.255.255", out=UNDERLAY, protocol="udp", ports=(68, 67)),
        Packet("169.254.1.1", out=UNDERLAY),
        Packet("fe80::1", out=UNDERLAY),
        Packet("ff02::2", out=UNDERLAY, protocol="ipv6-icmp", icmp=133),
        Packet("2600::1", out=UNDERLAY, protocol="ipv6-icmp", icmp=135),
        Packet("2600::1", out=UNDERLAY, protocol="ipv6-icmp", icmp=136),
    ]
    for packet in needed:
        assert world.judge.verdicts("OUTPUT", packet) == {"RETURN"}, packet
    for no in (replace(needed[0], ports=(67, 68)), replace(needed[0], ports=(68, 53)), replace(needed[4], icmp=128)):
        assert (world.judge.verdicts("OUTPUT", no) == REFUSED) == ("self" in world.takers(guarded=True)), no


@HOSTS
@given(worlds())
def test_who_may_pass_the_kill_switch_is_the_agent_and_what_answers(world: World) -> None:
    own = "self" in world.takers()
    for target in INTERNET:
        packet = Packet(target, out=UNDERLAY)
        marked, verdict = world.judge.sent(replace(packet, agent=True))
        assert verdict == {"RETURN"} and (marked.mark == BYPASS) == own
        assert (world.judge.targets("POSTROUTING", replace(marked, agent=True), "nat") == ["MASQUERADE"]) == own
        assert world.judge.sent(packet)[0].mark == 0
        kept, _ = world.judge.sent(replace(packet, agent=True, mark=0xC000))
        assert kept.mark == (0xC000 | BYPASS if own else 0xC000)
        for protocol, flags in (("tcp", {"SYN"}), ("udp", {"SYN"})):
            came = replace(packet, out="", into=UNDERLAY, protocol=protocol, flags=frozenset(flags), connmark=0xC000)
            got = world.judge.marked("PREROUTING", came)
            assert (got.mark == BYPASS, got.connmark == 0xC000 | BYPASS) == (own, own)
            answer = replace(packet, protocol=protocol, connmark=got.connmark, reply=True, state="ESTABLISHED")
            assert world.judge.sent(answer)[1] == {"RETURN"}
        late = replace(packet, out="", into=UNDERLAY, flags=frozenset({"ACK"}))
        assert world.judge.marked("PREROUTING", late).connmark == 0, "it began before there was an exit"
        assert world.judge.marked("PREROUTING", replace(late, into="lan0", flags=frozenset({"SYN"}))).mark == 0


@HOSTS
@given(worlds())
def test_names_are_not_asked_of_a_host_that_would_ask_by_the_underlay(world: World) -> None:
    own = "self" in world.takers(guarded=True)
    for lan, protocol in product(world.takers(guarded=True).keys() - {"self"}, ("tcp", "udp")):
        for target in ("192.168.0.1", "fd00:0::1"):
            query = Packet(target, into=lan, protocol=protocol, ports=(40000, 53))
            assert (world.judge.verdicts("INPUT", query) == REFUSED) == (not own)
            assert world.judge.verdicts("INPUT", replace(query, ports=(53, 80))) == {"RETURN"}
    for lan in world.free:
        assert world.judge.verdicts("INPUT", Packet("192.168.0.1", into=lan, ports=(40000, 53))) == {"RETURN"}


@HOSTS
@given(worlds())
def test_a_flow_of_a_tunnel_that_drains_stays_with_it(world: World) -> None:
    for taker, exit in world.takers().items():
        drains = world.exits[exit.name].get("on_switch") == "drain"
        for slot, target in product(exit.slots, INTERNET):
            first = world.judge.marked("POSTROUTING", Packet(target, out=slot.dev))
            assert (first.connmark != 0) == drains
            again = Packet(target, into="" if taker == "self" else taker, connmark=first.connmark, flags=frozenset())
            again = world.judge.marked("OUTPUT" if taker == "self" else "PREROUTING", again)
            (way, *_) = [t for t in world.judge.looked_up(again) if t != 254]
            assert way == (slot.table if drains else exit.table)
            other = world.judge.marked("POSTROUTING", Packet(target, out=slot.dev, connmark=BYPASS))
            assert other.connmark == BYPASS, "a flow has one mark"


def test_what_the_kernel_has_to_be_told_for_the_marks_to_count() -> None:
    def told(*takers: str) -> set[tuple[str, str]]:
        plan = World({"e0": {**_plain(), "for": list(takers)}}).plan
        return {(one.name, one.value) for one in plan.resources if isinstance(one, Sysctl)}

    assert told("self") - told("lan0") == {
        ("net/ipv4/conf/eth0/src_valid_mark", "1"),
        ("net/ipv4/tcp_fwmark_accept", "1"),
        ("net/ipv4/fwmark_reflect", "1"),
        ("net/ipv6/fwmark_reflect", "1"),
    }


def test_the_hosts_own_networks_and_ours_are_asked_before_any_exit() -> None:
    """All but the default route of main: what it knows better is never led into an exit."""
    for family in ("inet", "inet6"):
        rules = World({"e0": {**_plain(), "for": ["lan0", "self"]}}).plan.resources
        first = min((r for r in rules if isinstance(r, Rule) and r.family == family), key=lambda rule: rule.priority)
        assert (first.table, first.suppress_prefixlength, first.iif, first.fwmark) == (254, 0, None, None)
