"""What policy denies, judged packet by packet on every host that it concerns; and what all tunnels may."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from bench.generate import key
from compiler.compile import compile_files
from compiler.plan.firewall import denies
from schema.ip import Prefix
from schema.plan import Firewall, HostPlan
from schema.plan.ranges import TUNNELS
from tests.unit.compiler.test_properties import inside
from tests.unit.compiler.verdict import Judge, Packet
from tests.unit.compiler.walk import of

OURS = "wg-x-1"
SITES = {
    "a": {f"a{n}": (f"10.1.{n}.0/24", f"fd00:1:{n}::/64") for n in range(3)},
    "b": {f"b{n}": (f"10.2.{n}.0/24", f"fd00:2:{n}::/64") for n in range(2)},
    "c": {"c0": ("10.3.0.0/24", "fd00:3::/64")},
}
HOSTS = [host for hosts in SITES.values() for host in hosts]


def plans(deny: list[dict[str, str]], gateway: str = "c0") -> dict[str, HostPlan]:
    """Three sites of several hosts, each with LANs of its own, and a client."""
    files: dict[str, Any] = {}
    for number, (site, hosts) in enumerate(SITES.items()):
        made = {}
        for n, (host, (four, six)) in enumerate(hosts.items()):
            lan = [four.replace(".0/", ".1/"), six.replace("::/", "::1/")]
            underlay = {"interface": "eth0", "addresses": [f"203.0.113.{10 * number + n + 1}/24"]}
            made[host] = {"underlay": underlay, "lans": {"lan0": lan}}
            files[f"keys/{host}.pub"] = key(host)
        files[f"{site}.yaml"] = {"site": site, "kind": "datacenter", "hosts": made}
    links = [{"between": [a, b]} for n, a in enumerate(HOSTS) for b in HOSTS[n + 1 :]]
    files["fabric.yaml"] = {"fabric": "f", "version": 1, "deny": deny, "links": links}
    files["clients.yaml"] = {"clients": {"phone": {"public_key": key("phone"), "gateway": gateway}}}
    texts = {path: one if isinstance(one, str) else json.dumps(one) for path, one in files.items()}
    result = compile_files({path: text.encode() for path, text in texts.items()})
    assert not result.failed, [problem.text() for problem in result.problems]
    return result.plans()


def refused(plan: HostPlan, source: str, target: str, **more: Any) -> set[str]:
    """The hooks at which a packet is refused, come by a tunnel or going into one, whatever else is accepted there."""
    judge = Judge(plan.resources, {OURS: TUNNELS.first})
    found = set()
    for hook, into, out in (
        ("FORWARD", OURS, "lan0"),
        ("FORWARD", "lan0", OURS),
        ("INPUT", OURS, ""),
        ("OUTPUT", "", OURS),
    ):
        verdict = judge.verdicts(hook, Packet(target, source, into=into, out=out, **more))
        found |= {hook} if verdict == {"REJECT"} else set()
        assert len(verdict) == 1
    return found


ALL = {"FORWARD", "INPUT", "OUTPUT"}


@pytest.mark.parametrize("family", [0, 1])
def test_between_two_sites_no_host_of_one_reaches_any_of_the_other(family: int) -> None:
    found = plans([{"from": "a", "to": "b"}])
    addresses = {
        host: inside(Prefix.parse(networks[family])) for hosts in SITES.values() for host, networks in hosts.items()
    }
    for (host, plan), source, target in product(found.items(), HOSTS, HOSTS):
        denied = source[0] == "a" and target[0] == "b" and host[0] in "ab"
        one = addresses[source], addresses[target]
        assert refused(plan, *one) == (ALL if denied else set()), (host, source, target)
        for protocol in ("udp", "ipv6-icmp"):
            assert refused(plan, *one, protocol=protocol) == (ALL if denied else set())
        assert refused(plan, *one, state="ESTABLISHED") == set(), "what was let through once goes on"


def test_a_denied_client_is_refused_at_its_gateway_and_where_it_wants_to_go() -> None:
    found = plans([{"from": "phone", "to": "b1"}, {"from": "c", "to": "a2"}])
    (phone,) = {
        ip
        for one in found["c0"].resources
        if one.kind == "peer" and one.name == "phone"
        for ip in one.allowed_ips
        if "." in ip
    }  # type: ignore[attr-defined]
    there = phone.partition("/")[0]
    for host in HOSTS:
        assert refused(found[host], there, "10.2.1.7") == (ALL if host in ("c0", "b1") else set())
        assert refused(found[host], there, "10.2.0.7") == set()
        assert refused(found[host], "10.3.0.7", "10.1.2.7") == (ALL if host in ("c0", "a2") else set())
        assert refused(found[host], "10.3.0.7", "10.1.1.7") == set()


def test_what_is_not_denied_passes_between_tunnels_and_networks_and_ports_are_open_for_tunnels_only() -> None:
    for plan in plans([]).values():
        judge = Judge(plan.resources, {OURS: TUNNELS.first})
        ports = {one.listen_port for one in plan.resources if one.kind == "wireguard"}  # type: ignore[attr-defined]
        for source, target in (("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")):
            for into, out in ((OURS, "lan0"), ("lan0", OURS), (OURS, OURS)):
                assert judge.verdicts("FORWARD", Packet(target, source, into=into, out=out)) == {"ACCEPT"}
                clamped = "TCPMSS" in judge.targets("FORWARD", Packet(target, source, into=into, out=out), "mangle")
                assert clamped == (out == OURS)
            assert judge.verdicts("FORWARD", Packet(target, source, into="lan0", out="eth0")) == {"RETURN"}
            for port in range(min(ports) - 2, max(ports) + 3):
                packet = Packet(target, source, into="eth0", protocol="udp", ports=(40000, port))
                assert judge.verdicts("INPUT", packet) == ({"ACCEPT"} if port in ports else {"RETURN"})


def test_a_run_of_ports_is_one_rule() -> None:
    files = {
        "fabric.yaml": {"fabric": "f", "version": 1, "links": [
            {"between": ["a", "b"], "tunnels": 3, "ports": {"a": [6000, 6001, 6002], "b": [7000, 7002, 7001]}},
            {"between": ["a", "c"], "tunnels": 2, "ports": {"a": [6004, 6003]}},
        ]},
        **{f"{name}.yaml": {"site": name, "kind": "edge", "hosts": {f"{name}-gw": {
            "underlay": {"interface": "eth0", "addresses": [f"203.0.113.{n + 1}/24"]},
        }}} for n, name in enumerate("abc")},
    }  # fmt: skip
    texts = {path: json.dumps(one).encode() for path, one in files.items()}
    result = compile_files(texts | {f"keys/{name}-gw.pub": key(name).encode() for name in "abc"})
    for host, runs in (("a-gw", {"6000:6004"}), ("b-gw", {"7000:7002"})):
        rules = [rule for one in of(result.plan(host).resources, Firewall) if one.hook == "INPUT" for rule in one.rules]
        assert {rule.split()[5] for rule in rules if "--dport" in rule} == runs


def test_the_lab_is_told_the_same_as_the_hosts() -> None:
    files = {
        "fabric.yaml": {"fabric": "f", "version": 1, "deny": [{"from": "a", "to": "b"}]},
        **{f"{name}.yaml": {"site": name, "kind": "edge", "hosts": {f"{name}-gw": {
            "underlay": {"interface": "eth0", "addresses": "dhcp"}, "lans": {"l": [f"10.{n}.0.1/24"]},
        }}} for n, name in enumerate("ab")},
    }  # fmt: skip
    texts = {path: json.dumps(one).encode() for path, one in files.items()}
    fabric = compile_files(texts | {f"keys/{name}-gw.pub": key(name).encode() for name in "ab"}).fabric
    assert fabric is not None
    ((sources, targets),) = denies(fabric)
    assert {"10.0.0.0/24"} == {str(prefix) for prefix in sources if prefix.length == 24}
    assert {"10.1.0.0/24"} == {str(prefix) for prefix in targets if prefix.length == 24}
