"""Hosts of ours as gateways of others' exits: both ends fit, and what passes reaches nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from bench.generate import key
from compiler.compile import Compilation, compile_files
from schema.ip import Prefix
from schema.lock import lock_text
from schema.plan import Firewall, HostPlan, Link, Peer, Resource, Route, Wireguard
from schema.plan.change import diff
from schema.plan.ranges import TUNNELS
from tests.unit.compiler.verdict import Judge, Packet

POOL = [Prefix.parse("10.52.0.0/16"), Prefix.parse("fd00:52::/64")]
AMS = {"underlay": {"interface": "eno1", "addresses": ["203.0.113.10/24", "2001:db8:113::10/64"]}}
FRA = {"underlay": {"interface": "eno1", "addresses": ["192.0.2.10/24", "fd00:9::10/64"]}}


def edge(site: str, exits: dict[str, Any], **underlay: Any) -> dict[str, Any]:
    host = {"underlay": {"interface": "eth0", **underlay}, "lans": {"lan0": [f"192.168.{len(site)}.1/24"]}}
    return {"site": site, "kind": "edge", "hosts": {f"{site}-gw": host | {"exits": exits}}}


def datacenter(site: str, host: dict[str, Any]) -> dict[str, Any]:
    return {"site": site, "kind": "datacenter", "hosts": {f"{site}-gw": host}}


def own(*sites: str, **more: Any) -> dict[str, Any]:
    return {"own": {"provider": "site", "sites": list(sites), "dns": "9.9.9.9", **more}}


def network(*edges: dict[str, Any], without: Iterable[str] = (), lock: str = "", **fabric: Any) -> Compilation:
    """Data centres of one host each, of which fra has no IPv6 to the internet, and these sites, or in their place."""
    usual = (datacenter("ams", AMS), datacenter("fra", FRA))
    sites = list({site["site"]: site for site in (*usual, *edges)}.values())
    files = {"fabric.yaml": json.dumps({"fabric": "wan", "version": 1, **fabric}), "fabric.lock": lock}
    files |= {f"{site['site']}.yaml": json.dumps(site) for site in sites}
    hosts = [host for site in sites for host in site["hosts"] if host not in without]
    files |= {f"keys/{host}.pub": key(host) for host in hosts}
    return compile_files({name: text.encode() for name, text in files.items()})


def plan(result: Compilation, host: str) -> HostPlan:
    assert result.fabric is not None, [problem.text() for problem in result.problems]
    return result.plan(host)


def of(kind: type[Resource], result: Compilation, host: str) -> list[Any]:
    return [one for one in plan(result, host).resources if isinstance(one, kind)]


@pytest.mark.parametrize("host", ["home-gw", "cabin-gw"])
def test_both_ends_of_every_tunnel_fit(host: str) -> None:
    result = network(edge("home", own("ams", "fra")), edge("cabin", own("fra", "ams"), mtu=1400))
    [exit] = plan(result, host).runtime.exits or ()
    assert exit.gateways and exit.key and exit.key.fingerprint == key(host)
    for gateway in exit.gateways:
        [device] = of(Wireguard, result, gateway.name)
        assert gateway.public_key == device.private_key.fingerprint == key(gateway.name)
        assert gateway.endpoint.endswith(f":{device.listen_port}")
        [peer] = [peer for peer in of(Peer, result, gateway.name) if peer.public_key == key(host)]
        assert peer.allowed_ips == gateway.addresses
        assert {route.dst for route in of(Route, result, gateway.name)} >= set(gateway.addresses)
        assert [link.mtu for link in of(Link, result, gateway.name)] == [1320], "the smallest of those that it serves"


def test_an_exit_has_one_address_at_all_of_its_gateways_and_ipv6_where_it_reaches_the_internet() -> None:
    [exit] = plan(network(edge("home", own("ams", "fra"))), "home-gw").runtime.exits or ()
    assert [gateway.addresses for gateway in exit.gateways or ()] == [
        ("10.52.0.1/32", "fd00:52::1/128"),
        ("10.52.0.1/32",),
    ]


def test_nobody_else_has_a_route_to_an_exit() -> None:
    links = [{"between": ["home", "ams"]}, {"between": ["ams", "fra"]}]
    result = network(edge("home", own("fra")), links=links)
    routes = [(host, route) for host in result.hosts for route in of(Route, result, host)]
    led = [(host, r.dst) for host, r in routes if any(pool.covers(Prefix.parse(r.dst)) for pool in POOL)]
    assert led == [("fra-gw", "10.52.0.1/32")]


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_what_comes_in_leaves_by_the_underlay_alone(family: str) -> None:
    result = network(
        edge("home", own("ams", "fra")), deny=[{"from": "home", "to": "ams"}], links=[{"between": ["home", "ams"]}]
    )
    for host in ("ams-gw", "fra-gw"):
        chains = {c.hook: c.rules for c in of(Firewall, result, host) if (c.family, c.table) == (family, "filter")}
        for rules in chains.values():
            about = [rule for rule in rules if "wg-exits" in rule]
            assert rules[: len(about)] == tuple(about), "no rule for our own networks comes before these"
            for inward in ("-i wg-exits ", "-o wg-exits "):
                decided = [rule for rule in about if inward in rule]
                assert not decided or decided[-1].startswith(f"{inward}-j REJECT")
        opened = [rule for rule in chains["FORWARD"] if "wg-exits" in rule and rule.endswith("ACCEPT")]
        answers = "-i eno1 -o wg-exits -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        carried = family == "inet" or host == "ams-gw"
        assert opened == (["-i wg-exits -o eno1 -j ACCEPT", answers] if carried else [])


def test_public_networks_of_ours_are_no_part_of_the_internet_either() -> None:
    six = {"underlay": {"interface": "eno1", "addresses": ["192.0.2.20/24"]}, "lans": {"lan0": ["2001:db8:30::1/64"]}}
    result = network(edge("home", own("ams")), datacenter("oslo", six))
    rules = [rule for chain in of(Firewall, result, "ams-gw") if chain.hook == "FORWARD" for rule in chain.rules]
    refused = "-d 2001:db8:30::/64 -i wg-exits -j REJECT --reject-with icmp6-adm-prohibited"
    assert rules.index(refused) < rules.index("-i wg-exits -o eno1 -j ACCEPT", rules.index(refused))


def test_a_gateway_without_a_key_is_left_out_and_so_is_an_edge() -> None:
    both, fewer = (network(edge("home", own("ams", "fra")), without=some) for some in ([], ["ams-gw"]))
    [exit] = plan(fewer, "home-gw").runtime.exits or ()
    assert [gateway.name for gateway in exit.gateways or ()] == ["fra-gw"]
    assert fewer.fabric and both.fabric and fewer.fabric.lock == both.fabric.lock, "its numbers stay its own"
    assert of(Peer, network(edge("home", own("ams")), without=["home-gw"]), "ams-gw") == []


def test_an_exit_that_goes_takes_its_peer_and_the_last_one_the_device() -> None:
    home, cabin = edge("home", own("ams")), edge("cabin", own("ams"))
    two, one, none = (
        plan(network(*some), "ams-gw").resources for some in ([home, cabin], [home, edge("cabin", {})], [])
    )
    gone = [change.before for change in diff(two, one) if change.before and change.after is None]
    assert {type(resource) for resource in gone} == {Peer, Route}
    assert "wg-exits" not in str(none)


def test_what_the_lock_names_stays_when_others_come_and_go() -> None:
    alone = network(edge("home", own("ams")))
    assert alone.fabric is not None
    lock = lock_text(alone.fabric.lock)
    assert "exit home-gw/own 10.52.0.1\n" in lock and "port ams-gw wg-exits 5000\n" in lock
    after = network(edge("cabin", own("ams")), edge("home", own("fra", "ams")), lock=lock)
    assert after.fabric is not None
    assert alone.fabric.lock.items() <= after.fabric.lock.items()
    assert after.fabric.lock["exit", "cabin-gw/own", "4"] == alone.fabric.lock["exit", "home-gw/own", "4"] + 1


def test_without_such_exits_nothing_is_taken_from_their_pool() -> None:
    host = {"underlay": {"interface": "eth0"}, "lans": {"lan0": ["10.52.3.1/24"]}}
    assert not network({"site": "old", "kind": "edge", "hosts": {"old": host}}).failed


def test_sites_are_preferred_by_their_names() -> None:
    [exit] = (
        plan(network(edge("home", own("ams", "fra", prefer="fra", ignore="ams-gw"))), "home-gw").runtime.exits or ()
    )
    assert (exit.prefer, exit.ignore) == (("fra-gw",), ("ams-gw",))


def test_a_gateway_with_exits_of_its_own_marks_what_it_sends() -> None:
    result = network(edge("home", own("ams")), datacenter("ams", {**AMS, "exits": own("fra")}))
    assert {device.fwmark for device in of(Wireguard, result, "ams-gw")} == {0x55}


def test_what_leaves_for_others_has_the_gateways_own_address_and_nothing_else_has() -> None:
    result = network(edge("home", own("ams", "fra")))
    for host, families in (("ams-gw", (4, 6)), ("fra-gw", (4,))):
        judge = Judge(plan(result, host).resources, {})
        for source, target, version in (("10.52.0.1", "198.51.100.9", 4), ("fd00:52::1", "2600::9", 6)):
            leaving = Packet(target, source, into="wg-exits", out="eno1")
            translated = judge.targets("POSTROUTING", leaving, "nat")
            assert translated == (["MASQUERADE"] if version in families else []), (host, leaving)
            assert judge.verdicts("FORWARD", leaving) == ({"ACCEPT"} if version in families else {"REJECT"})
            assert judge.targets("POSTROUTING", replace(leaving, source="10.9.9.9"), "nat") == [] or version == 6
            assert judge.targets("POSTROUTING", replace(leaving, out="eno9"), "nat") == []


def test_an_exit_by_a_site_reaches_nothing_of_ours_and_nobody_reaches_it() -> None:
    result = network(edge("home", own("ams")), links=[{"between": ["home", "ams"]}])
    judge = Judge(plan(result, "ams-gw").resources, {"wg-home-1": TUNNELS.first})
    for target in ("192.168.4.1", "10.0.0.1", "100.64.0.1", "169.254.169.254", "fd00::1", "fe80::1"):
        for out in ("eno1", "wg-home-1", "lan9"):
            assert judge.verdicts("FORWARD", Packet(target, "10.52.0.1", into="wg-exits", out=out)) == {"REJECT"}
    for out in ("wg-home-1", "lan9"):
        assert judge.verdicts("FORWARD", Packet(source="10.52.0.1", into="wg-exits", out=out)) == {"REJECT"}
    for into in ("eno1", "wg-home-1", "lan9"):
        assert judge.verdicts("FORWARD", Packet("10.52.0.1", into=into, out="wg-exits")) == {"REJECT"}
    answer = Packet("10.52.0.1", into="eno1", out="wg-exits", state="ESTABLISHED")
    assert judge.verdicts("FORWARD", answer) == {"ACCEPT"}
    entering = Packet("203.0.113.10", "10.52.0.1", into="wg-exits")
    assert judge.verdicts("INPUT", entering) == {"REJECT"}
    assert judge.verdicts("INPUT", replace(entering, state="RELATED")) == {"ACCEPT"}
