"""What the tunnels of exits need in the kernel, and what they never lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.converge.diff import Desired
from reconciler.kinds import KINDS
from reconciler.loops.exits.overlay import Held, Placed, overlay
from schema.plan import Firewall, Link, Nexthop, Peer, Resource, Route, Rule, SecretRef, Sysctl, Wireguard
from tests.unit.compiler.verdict import Judge, Packet
from tests.unit.reconciler.loops.exits.samples import KEY, an_exit, gateway, session

LONDON = session(gateway("uk/london401"))
BOTH = session(gateway("nl/ams1", 2), "10.64.0.2/32", "fd00:64::2/128")


def held(*sessions: Any, carrying: tuple[bool, ...] = (True, True), **changes: Any) -> Held:
    exit = an_exit(max(1, len(sessions)), **changes)
    tunnels = [Placed(exit.slots[n], one, carrying[n]) for n, one in enumerate(sessions)]
    return Held(exit, SecretRef(secret="exit:pia", fingerprint=KEY), tunnels)


def of(kind: type[Resource], *exits: Held) -> list[Any]:
    return [one for one in overlay(exits) if isinstance(one, kind)]


def test_without_a_tunnel_there_is_nothing() -> None:
    assert overlay([held()]) == []


def test_a_tunnel_is_marked_grouped_and_takes_the_families_that_it_carries() -> None:
    (device,), (peer,), (link,) = of(Wireguard, held(LONDON)), of(Peer, held(LONDON)), of(Link, held(LONDON))
    assert (device.fwmark, link.group) == (0x55, 118)
    assert device.private_key.secret == "exit:pia"
    assert (peer.allowed_ips, peer.endpoint) == (("0.0.0.0/0",), "198.51.100.1:1337")
    assert of(Peer, held(BOTH))[0].allowed_ips == ("0.0.0.0/0", "::/0")


def test_a_plan_from_before_there_was_a_mask_has_the_marks_of_then() -> None:
    one = replace(held(LONDON, marks=None), port=("wg-pia-1", 40123))
    assert of(Wireguard, one)[0].fwmark == 0xEA55
    rules = [rule for chain in of(Firewall, one) for rule in chain.rules]
    assert any("-m mark ! --mark 0xea55 -j DNAT" in rule for rule in rules)
    assert any(rule.endswith("--set-xmark 0xea56/0xffffffff") for rule in rules)


def test_ipv6_is_off_on_a_tunnel_that_does_not_carry_it() -> None:
    values = {one.name: one.value for one in of(Sysctl, held(LONDON))}
    assert values["net/ipv6/conf/wg-pia-1/disable_ipv6"] == "1"
    assert [route.dst for route in of(Route, held(LONDON))] == ["0.0.0.0/0", "0.0.0.0/0"]


def test_what_is_bound_to_a_tunnel_finds_its_way_by_ipv6_too() -> None:
    (rule,) = of(Rule, held(BOTH, carrying=(False,)))
    assert (rule.family, rule.oif, rule.table) == ("inet6", "wg-pia-1", 60000)
    assert not any(one.oif for one in of(Rule, held(LONDON)))


def test_one_that_does_not_carry_yet_has_a_table_of_its_own_only() -> None:
    assert [route.table for route in of(Route, held(LONDON, carrying=(False,)))] == [60000]
    assert of(Firewall, held(LONDON, carrying=(False,))) == []


def test_several_are_a_group_that_flows_stick_to() -> None:
    routes = {route.table: route for route in of(Route, held(BOTH, LONDON)) if route.dst == "0.0.0.0/0"}
    groups = [one for one in of(Nexthop, held(BOTH, LONDON)) if one.group]
    four = next(group for group in groups if group.id == routes[59989].nhid)
    assert len(four.group) == 2 and four.resilient is not None
    six = next(group for group in groups if group is not four)
    assert len(six.group) == 1


def test_names_are_asked_of_the_exits_server_whoever_was_meant() -> None:
    chains = {chain.hook: chain.rules for chain in of(Firewall, held(LONDON))}
    to = "-j DNAT --to-destination 10.64.0.1:53"
    assert f"-i lan0 -p udp -m udp --dport 53 {to}" in chains["PREROUTING"]
    assert f"-p tcp -m tcp --dport 53 -m mark ! --mark 0x55/0xff {to}" in chains["OUTPUT"]
    assert "-d 192.168.10.0/24 -i lan0 -j RETURN" in chains["PREROUTING"]


def test_a_gateways_server_is_reached_by_its_tunnel_whatever_else_has_its_address() -> None:
    rules = of(Rule, held(LONDON))
    assert {(rule.priority, rule.dst, rule.iif, rule.table) for rule in rules} == {
        (1169, "10.64.0.1/32", "lan0", 60000),
        (1169, "10.64.0.1/32", "lo", 60000),
    }
    assert of(Rule, held(LONDON, carrying=(False,))) == []
    assert of(Rule, held(LONDON, dns=("9.9.9.9",))) == []


def test_where_the_host_takes_no_exit_it_is_not_asked_for_names() -> None:
    (chain,) = of(Firewall, held(LONDON, own=False))
    assert "--dst-type LOCAL -j DNAT" in chain.rules[0]


def test_written_servers_come_before_the_providers() -> None:
    chains = of(Firewall, held(LONDON, dns=("9.9.9.9",)))
    assert all("10.64.0.1" not in rule for chain in chains for rule in chain.rules)


def test_a_forwarded_port_is_let_in_at_the_tunnel_that_it_leads_to() -> None:
    one = replace(held(LONDON), port=("wg-pia-1", 40123))
    (chain,) = [chain for chain in of(Firewall, one) if chain.table == "mangle"]
    assert chain.rules[0] == "-i wg-pia-1 -p tcp -m tcp --dport 40123 -j MARK --set-xmark 0x56/0xff"
    assert not [c for c in of(Firewall, replace(one, port=("wg-pia-2", 1))) if c.table == "mangle"]


def test_two_exits_share_the_chains() -> None:
    other = held(BOTH, name="other", lans=("lan1",), own=False, table=59990)
    moved = [Placed(replace_slot(one), one.session, True) for one in other.tunnels]
    found = Desired.of(overlay([held(LONDON), replace(other, tunnels=moved)]), KINDS)
    assert found.clashes == ()


def replace_slot(placed: Placed) -> Any:
    return placed.slot.model_copy(update={"dev": "wg-other", "port": 5100, "table": 60016})


@given(
    st.lists(st.sampled_from([LONDON, BOTH]), max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.booleans(),
)
def test_nothing_ever_leads_to_the_underlay(sessions: list[Any], carrying: list[bool], own: bool) -> None:
    """Every route is in a table of the exit, and leads into one of its tunnels."""
    one = held(*sessions, carrying=tuple(carrying), own=own)
    found = overlay([one])
    devs = {slot.dev for slot in one.exit.slots}
    tables = {one.exit.table, *(slot.table for slot in one.exit.slots)}
    nexthops = {n.id for n in found if isinstance(n, Nexthop)}
    for route in (r for r in found if isinstance(r, Route)):
        assert route.table in tables and route.type == "unicast"
        assert route.dev in devs or route.nhid in nexthops
    assert {n.dev for n in found if isinstance(n, Nexthop) and n.dev} <= devs
    assert Desired.of(found, KINDS).clashes == ()


def chains(*exits: Held) -> Judge:
    return Judge(of(Firewall, *exits), {})


def test_names_go_to_the_exits_server_but_not_while_no_tunnel_carries_them() -> None:
    up, down = held(LONDON), held(LONDON, carrying=(False,))
    query = Packet("198.51.100.53", protocol="udp", ports=(40000, 53))
    for packet, hook in ((replace(query, into="lan0"), "PREROUTING"), (query, "OUTPUT")):
        assert chains(up).targets(hook, packet, "nat") == ["DNAT"]
        assert chains(down).targets(hook, packet, "nat") == []
        six = replace(packet, target="2600::53")
        assert chains(up).targets(hook, six, "nat") == [], "London carries no IPv6"
    assert chains(up).targets("PREROUTING", replace(query, into="lan9"), "nat") == []


def test_names_of_our_own_servers_are_asked_of_them() -> None:
    """Whatever is asked of our networks, or of the host itself, stays; as does what the agent asks."""
    for server in ("192.168.10.53", "127.0.0.53"):
        query = Packet(server, protocol="udp", ports=(40000, 53))
        assert chains(held(LONDON)).targets("OUTPUT", query, "nat") == ["RETURN"]
    lan = Packet("192.168.10.53", into="lan0", protocol="tcp", ports=(40000, 53))
    assert chains(held(LONDON)).targets("PREROUTING", lan, "nat") == ["RETURN"]
    assert chains(held(LONDON)).targets("OUTPUT", Packet("9.9.9.9", ports=(1, 53), mark=0x55), "nat") == []
    assert chains(held(LONDON)).targets("OUTPUT", Packet("9.9.9.9", ports=(1, 53), mark=0xC000), "nat") == ["DNAT"]


def test_the_way_back_of_an_exit_may_be_another_one() -> None:
    values = {one.name: one.value for one in of(Sysctl, held(LONDON))}
    assert values["net/ipv4/conf/wg-pia-1/rp_filter"] == "2"
