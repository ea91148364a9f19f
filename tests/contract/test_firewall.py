"""Firewall chains."""

from __future__ import annotations

import pytest

from schema.plan import Change, Firewall
from tests.contract.conftest import World
from tests.namespaces import run

INPUT = Firewall(
    family="inet",
    table="filter",
    chain="GITWAN-INPUT",
    hook="INPUT",
    rules=(
        "-i lo -j ACCEPT",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-i wg-ams-1 -j ACCEPT",
        "-s 192.0.2.1/32 -p udp -m udp --dport 51820 -j ACCEPT",
        "-p udp -m multiport --dports 51820,51821 -j ACCEPT",
        "-p tcp -m tcp --dport 22 -j ACCEPT",
        "-p icmp -j ACCEPT",
        "-m devgroup --src-group 0x75 -j ACCEPT",
        '-s 10.0.0.0/16 -d 10.1.0.0/16 -m comment --comment "deny it" -j REJECT --reject-with icmp-port-unreachable',
        "-j DROP",
    ),
)
FORWARD = Firewall(
    family="inet",
    table="filter",
    chain="GITWAN-FORWARD",
    hook="FORWARD",
    rules=(
        "-o wg-ams-1 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        "-i wg+ -o eth0 -j ACCEPT",
    ),
)
NAT = Firewall(
    family="inet",
    table="nat",
    chain="GITWAN-POSTROUTING",
    hook="POSTROUTING",
    rules=("-s 10.0.0.0/16 -d 10.0.0.0/8 -j RETURN", "-s 10.0.0.0/16 -o eth0 -j MASQUERADE"),
)
MANGLE = Firewall(
    family="inet",
    table="mangle",
    chain="GITWAN-PREROUTING",
    hook="PREROUTING",
    rules=("-i eth0 -j MARK --set-xmark 0x75/0xffffffff", "-m mark --mark 0x75 -j ACCEPT"),
)
SIX = Firewall(
    family="inet6",
    table="filter",
    chain="GITWAN-FORWARD",
    hook="FORWARD",
    rules=(
        "-i wg-ams-1 -j ACCEPT",
        "-p ipv6-icmp -j ACCEPT",
        '-s fd00:1::/32 -d fd00:2::/32 -m comment --comment "deny it" -j REJECT --reject-with icmp6-port-unreachable',
        "-o wg-ams-1 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    ),
)
EMPTY = Firewall(family="inet6", table="filter", chain="GITWAN-INPUT", hook="INPUT")
ALL = (INPUT, FORWARD, NAT, MANGLE, SIX, EMPTY)


def test_what_was_written_reads_back_equal(world: World) -> None:
    assert world.create(*ALL) == []
    assert world.ours("firewall") == set(ALL)
    assert world.create(*ALL) == []
    assert world.ours("firewall") == set(ALL)


def test_a_change_replaces_a_chain_and_leaves_the_others(world: World) -> None:
    world.made(*ALL)
    after = INPUT.model_copy(update={"rules": ("-i eth0 -j ACCEPT",)})
    assert world.apply(Change(INPUT, after)) == []
    assert world.ours("firewall") == {after, *ALL[1:]}


def test_a_chain_moves_to_another_hook(world: World) -> None:
    world.made(MANGLE)
    after = MANGLE.model_copy(update={"hook": "OUTPUT", "rules": MANGLE.rules[1:]})
    assert world.apply(Change(MANGLE, after)) == []
    assert world.satisfied(after)


def test_deleting_removes_the_jump_too_and_can_be_done_twice(world: World) -> None:
    world.made(*ALL)
    assert world.delete(*ALL) == []
    assert world.observe("firewall") == []
    assert world.delete(*ALL) == []


def test_a_rule_that_is_refused_leaves_the_other_chains_changed(world: World) -> None:
    if world.fake is not None:
        world.fake.fail_next("firewall", 0)
    bad = FORWARD.model_copy(update={"rules": ("-m nonsense -j ACCEPT",)})
    failures = world.create(bad, INPUT, NAT)
    assert [failure.change.after for failure in failures] == [bad]
    assert {INPUT, NAT} <= world.ours("firewall")


@pytest.mark.parametrize("world", [pytest.param("real", marks=pytest.mark.root)], indirect=True)
class TestJumps:
    @pytest.mark.parametrize(
        "command",
        [
            "iptables -D INPUT -j GITWAN-INPUT",
            "iptables -A INPUT -j GITWAN-INPUT",
            "iptables -A FORWARD -j GITWAN-INPUT",
        ],
    )
    def test_one_that_is_missing_or_too_many_is_seen_and_repaired(self, world: World, command: str) -> None:
        world.made(INPUT)
        run(command)
        (seen,) = world.observe("firewall")
        assert not world.satisfied(INPUT)
        assert world.apply(Change(seen.resource, INPUT)) == []
        assert world.satisfied(INPUT)

    def test_the_jump_comes_first_and_others_rules_stay(self, world: World) -> None:
        run("iptables -A INPUT -i eth0 -j DROP")
        run("iptables -N OTHERS")
        world.made(INPUT)
        lines = run("iptables -S INPUT").splitlines()
        assert lines[1:] == ["-A INPUT -j GITWAN-INPUT", "-A INPUT -i eth0 -j DROP"]
        assert world.delete(INPUT) == []
        assert run("iptables -S").splitlines()[3:] == ["-N OTHERS", "-A INPUT -i eth0 -j DROP"]
