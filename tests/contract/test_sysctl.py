"""Kernel parameters."""

from __future__ import annotations

from pathlib import Path

from schema.plan import Change, Sysctl
from tests.contract.conftest import World

FORWARDING = Sysctl(name="net/ipv4/ip_forward", value="1")
OFF = Sysctl(name="net/ipv4/ip_forward", value="0")


def value(world: World) -> str:
    if world.fake is not None:
        return world.fake.parameters[FORWARDING.name]
    return (Path("/proc/sys") / FORWARDING.name).read_text().strip()


def test_a_value_is_set_and_the_one_before_comes_back(world: World) -> None:
    before = value(world)
    for wanted in (FORWARDING, OFF, FORWARDING):
        assert world.create(wanted) == []
        assert world.satisfied(wanted)
        assert value(world) == wanted.value
    assert world.delete(FORWARDING) == []
    assert value(world) == before
    assert world.observe("sysctl") == []
    assert world.delete(FORWARDING) == []


def test_a_change_keeps_the_value_from_before_us(world: World) -> None:
    before = value(world)
    world.made(FORWARDING)
    assert world.apply(Change(FORWARDING, OFF)) == []
    assert world.apply(Change(OFF, FORWARDING)) == []
    assert world.delete(FORWARDING) == []
    assert value(world) == before


def test_one_of_an_interface(world: World) -> None:
    wanted = Sysctl(name="net/ipv4/conf/eth0/rp_filter", value="2")
    assert world.create(wanted) == []
    assert world.satisfied(wanted)


def test_one_that_is_not_there_is_refused(world: World) -> None:
    failures = world.create(Sysctl(name="net/ipv4/conf/gone/rp_filter", value="2"))
    assert [failure.code for failure in failures] == ["ENOENT"]
    assert world.observe("sysctl") == []
