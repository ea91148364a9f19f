"""Links."""

from __future__ import annotations

import pytest

from schema.plan import BondOptions, Change, Link
from tests.contract.conftest import WIREGUARD_WORLDS, World

TUNNEL = Link(name="wg0", type="wireguard", mtu=1380, group=7)
BRIDGE = Link(name="br0", type="bridge", members=("eth1", "eth0"))


@pytest.mark.parametrize("world", WIREGUARD_WORLDS, indirect=True)
class TestTunnel:
    def test_it_is_made_marked_and_up_and_can_be_made_again(self, world: World) -> None:
        assert world.create(TUNNEL) == []
        assert world.create(TUNNEL) == []
        assert world.satisfied(TUNNEL)
        assert world.ours("link") == {TUNNEL}
        assert all(one.up for one in world.observe("link"))

    def test_it_goes_and_can_come_back_under_its_name(self, world: World) -> None:
        for _ in range(3):
            world.made(TUNNEL)
            assert world.delete(TUNNEL) == []
            assert world.observe("link") == []
        assert world.delete(TUNNEL) == []

    def test_its_mtu_changes_in_place(self, world: World) -> None:
        world.made(TUNNEL)
        after = TUNNEL.model_copy(update={"mtu": 1400})
        assert world.apply(Change(TUNNEL, after)) == []
        assert world.ours("link") == {after}

    def test_one_without_an_mtu_in_the_plan_has_the_drivers(self, world: World) -> None:
        wanted = Link(name="wg0", type="wireguard")
        world.made(wanted)
        assert world.satisfied(wanted)
        assert [one.resource.mtu for one in world.observe("link")] == [1420]


def test_a_bridge_takes_and_releases_members(world: World) -> None:
    world.made(BRIDGE)
    assert world.satisfied(BRIDGE)
    after = Link(name="br0", type="bridge", members=("eth1",))
    assert world.apply(Change(BRIDGE, after)) == []
    assert world.satisfied(after)


def test_a_missing_member_is_refused(world: World) -> None:
    failures = world.create(Link(name="br0", type="bridge", members=("gone",)))
    assert [failure.code for failure in failures] == ["ENODEV"]


def test_a_link_that_was_set_down_is_not_as_wanted(world: World) -> None:
    wanted = Link(name="br0", type="bridge")
    world.made(wanted)
    if world.fake is not None:
        world.fake.set_down("br0")
    else:
        world.remove(wanted, "link set br0 down")
    assert not world.satisfied(wanted)
    assert world.apply(Change(wanted, wanted)) == []
    assert world.satisfied(wanted)


def test_another_owners_link_is_left_alone(world: World) -> None:
    theirs = Link(name="br0", type="bridge", mtu=1500)
    world.add_foreign(theirs, "link add br0 type bridge")
    assert world.delete(theirs) == []
    assert world.create(theirs) == []
    assert {link.name for link in world.foreign("link")} == {"br0"}
    refused = world.create(theirs.model_copy(update={"mtu": 1300}))
    assert [failure.code for failure in refused] == ["EEXIST"]
    assert world.create(Link(name="eth0", type="bridge"))[0].code == "EEXIST"


def test_a_link_is_adopted(world: World) -> None:
    theirs = Link(name="br0", type="bridge", mtu=1500)
    world.add_foreign(theirs, "link add br0 type bridge")
    assert world.apply(Change(theirs, theirs)) == []
    assert world.satisfied(theirs)


@pytest.mark.parametrize(
    "world", ["fake", pytest.param("kernel_wireguard", marks=[pytest.mark.root, pytest.mark.kernel])], indirect=True
)
def test_a_bond_is_made_with_its_options_and_remade_for_another_mode(world: World) -> None:
    wanted = Link(name="bond0", type="bond", members=("eth0",), bond=BondOptions(miimon=50))
    world.made(wanted)
    assert world.satisfied(wanted)
    hashed = wanted.model_copy(update={"bond": BondOptions(miimon=50, xmit_hash_policy="layer2+3")})
    assert world.apply(Change(wanted, hashed)) == []
    assert world.satisfied(hashed)
    backup = wanted.model_copy(update={"bond": BondOptions(mode="active-backup"), "members": ("eth0", "eth1")})
    assert world.apply(Change(hashed, backup)) == []
    assert world.satisfied(backup)
