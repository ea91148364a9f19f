"""Bonds of the real kernel, and packets through them: run in the kernel lane's virtual machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

import schema.plan
from reconciler.loops.bonds.policy import complaint
from reconciler.system.bond import BondReader
from schema.leg import Sender
from schema.plan import BondOptions, Change, Disruption, Link
from tests.contract.bonding import Flows, far_bond, in_one_aggregator, joined, raise_far, real, shown, until
from tests.contract.conftest import World
from tests.namespaces import ip

pytestmark = [pytest.mark.root, pytest.mark.kernel]
LEGS = ("leg0", "leg1", "leg2")
LACP = "mode 802.3ad miimon 50 xmit_hash_policy layer3+4"
BOND = Link(name="bond0", type="bond", mtu=1500, members=LEGS, bond=BondOptions(miimon=50))
FLOWS = range(6000, 6012)


@pytest.fixture(params=["kernel_bond"])
def world(tmp_path: Path) -> Iterator[World]:
    with joined(len(LEGS)):
        yield real(tmp_path)


def changed(world: World, before: Link, **update: object) -> Link:
    after = before.model_copy(update=update)
    assert world.apply(Change(before, after)) == []
    assert world.satisfied(after)
    return after


def speaking(world: World, bond: Link, legs: tuple[str, ...]) -> None:
    """The bond, with an address, and LACP spoken on these legs with the far end's, which has all."""
    far_bond(3, LACP, "192.0.2.2/24")
    world.made(bond)
    ip("address add 192.0.2.1/24 dev bond0")
    until(lambda: in_one_aggregator(*legs), f"{legs} speak LACP")


def test_a_leg_that_joins_costs_those_flows_nothing_that_do_not_move_to_it(world: World) -> None:
    """Bonding of before 6.9 sends by a new leg up to 100 ms before the other end listens there (its mux is coupled)."""
    two = BOND.model_copy(update={"members": LEGS[:2]})
    speaking(world, two, LEGS[:2])
    sender = Sender.of("192.0.2.1", "192.0.2.2", 3)
    leg = {port: (sender.leg(port, 7), sender.leg(7, port)) for port in FLOWS}
    stay = [port for port in FLOWS if 2 not in leg[port]]
    assert 3 < len(stay) < len(FLOWS)
    with Flows(FLOWS) as flows:
        flows.later()
        before = shown("leg2")["stats64"]["tx"]["packets"]
        changed(world, two, members=LEGS)
        until(lambda: in_one_aggregator(*LEGS), "the third leg has joined")
        flows.later(50)
        lost = flows.lost()
        assert {port: lost[port] for port in stay} == dict.fromkeys(stay, 0)
        assert shown("leg2")["stats64"]["tx"]["packets"] > before + 50, "no flow moved to the new leg"


def test_a_leg_that_leaves_costs_only_the_flows_that_it_carried(world: World) -> None:
    assert Link.disruption(BOND, BOND.model_copy(update={"members": LEGS[:2]})) == Disruption.REORDERS
    speaking(world, BOND, LEGS)
    sender = Sender.of("192.0.2.1", "192.0.2.2", 3)
    stay = [port for port in FLOWS if 2 not in (sender.leg(port, 7), sender.leg(7, port))]
    assert 3 < len(stay) < len(FLOWS)
    with Flows(FLOWS) as flows:
        flows.later()
        changed(world, BOND, members=LEGS[:2])
        until(lambda: in_one_aggregator(*LEGS[:2]), "the others speak LACP")
        flows.later(50)
        before = dict(flows.back)
        flows.later()
        assert all(flows.back[port] > before[port] for port in FLOWS), "every flow goes on"
        lost = flows.lost()
        assert {port: lost[port] for port in stay} == dict.fromkeys(stay, 0)


def test_another_mtu_is_a_matter_of_moments(world: World) -> None:
    speaking(world, BOND, LEGS)
    with Flows(FLOWS) as flows:
        flows.later()
        changed(world, BOND, mtu=1400)
        flows.later(50)
        before = dict(flows.back)
        flows.later()
        assert all(flows.back[port] > before[port] for port in FLOWS), "every flow goes on"


def test_a_backup_that_joins_costs_no_packet(world: World) -> None:
    options = BondOptions(mode="active-backup", miimon=50)
    one = Link(name="bond0", type="bond", members=LEGS[:1], bond=options)
    far_bond(3, "mode active-backup miimon 50 primary leg0", "192.0.2.2/24")
    world.made(one)
    ip("address add 192.0.2.1/24 dev bond0")
    until(lambda: shown("bond0")["operstate"] == "UP", "the bond is up")
    with Flows(FLOWS) as flows:
        flows.later()
        changed(world, one, members=LEGS)
        flows.later()
        assert set(flows.lost().values()) == {0}


def test_what_may_change_while_the_bond_is_up_changes_without_a_packet_lost(world: World) -> None:
    speaking(world, BOND, LEGS)
    with Flows(FLOWS) as flows:
        flows.later()
        now = changed(world, BOND, bond=BondOptions(miimon=100, min_links=2))
        changed(world, now, bond=BondOptions(miimon=100, min_links=2, xmit_hash_policy="layer2+3"))
        flows.later()
        assert set(flows.lost().values()) == {0}


def test_the_lacp_rate_changes_in_place_though_the_bond_goes_down_for_it(world: World) -> None:
    world.made(BOND)
    index = shown("bond0")["ifindex"]
    fast = changed(world, BOND, bond=BondOptions(miimon=50, lacp_rate="fast"))
    changed(world, fast, bond=BondOptions(miimon=50))
    assert shown("bond0")["ifindex"] == index


def test_members_have_the_bonds_mtu_and_are_as_before_once_they_leave(world: World) -> None:
    world.made(BOND)
    wide = changed(world, BOND, mtu=9000)
    assert [shown(leg)["mtu"] for leg in LEGS] == [9000] * 3
    one = changed(world, wide, members=("leg0",))
    assert [("UP" in shown(leg)["flags"], shown(leg)["mtu"]) for leg in LEGS[1:]] == [(True, 1500)] * 2
    assert world.delete(one) == []
    assert "UP" in shown("leg0")["flags"]


def test_legs_are_numbered_as_the_plan_names_them(world: World) -> None:
    world.made(BOND.model_copy(update={"members": ("leg2", "leg0", "leg1")}))
    order = re.findall(r"Slave Interface: (\S+)", Path("/proc/net/bonding/bond0").read_text())
    assert order == ["leg2", "leg0", "leg1"]


def test_the_primary_leads(world: World) -> None:
    backup = Link(
        name="bond0", type="bond", members=LEGS, bond=BondOptions(mode="active-backup", miimon=50, primary="leg1")
    )
    raise_far(len(LEGS))
    world.made(backup)
    assert world.satisfied(backup)
    changed(world, backup, bond=BondOptions(mode="active-backup", miimon=50, primary="leg2"))
    until(lambda: shown("bond0")["linkinfo"]["info_data"]["active_slave"] == "leg2", "leg2 leads")
    changed(world, backup, bond=BondOptions(mode="active-backup", miimon=50))


def looked_at(*names: str, hash_: Literal["layer2", "layer3+4"] = "layer3+4") -> str | None:
    """The reason for which the loop complains of a bond of these members, after one look at the kernel."""
    wanted = schema.plan.WatchedBond(name="bond0", mode="802.3ad", hash=hash_, members=names, tunnels=())
    states, received = BondReader().read({"bond0"})
    assert set(names) <= received.keys()
    found = complaint(wanted, states["bond0"])
    return found.reason if found else None


def test_bonds_that_speak_lacp_are_no_matter_and_a_leg_that_falls_out_is(world: World) -> None:
    speaking(world, BOND, LEGS)
    assert looked_at(*LEGS) is None
    assert looked_at(*LEGS, hash_="layer2") == "OtherOptions"
    ip("-n far link set leg1 nomaster")
    ip("-n far link set leg1 up")
    until(lambda: looked_at(*LEGS) == "MemberApart", "the leg whose partner is no more is noticed")
    ip("-n far link set leg1 down")
    until(lambda: looked_at(*LEGS) == "LegDown", "a leg without a carrier is noticed")


def test_a_partner_that_speaks_no_lacp_is_a_matter(world: World) -> None:
    far_bond(3, "mode active-backup miimon 50", "192.0.2.2/24")
    world.made(BOND)
    until(lambda: all(leg.carrier for leg in BondReader().read({"bond0"})[0]["bond0"].legs), "all legs have a carrier")
    assert looked_at(*LEGS) == "NoPartner"


def test_tunnels_bytes_and_legs_bytes_are_of_one_moment(world: World) -> None:
    speaking(world, BOND, LEGS)
    before = BondReader().read({"bond0"})[1]
    with Flows(FLOWS) as flows:
        flows.later(50)
        assert set(flows.lost().values()) == {0}
    after = BondReader().read({"bond0"})[1]
    rise = {name: after[name] - before[name] for name in ("bond0", *LEGS)}
    assert rise["bond0"] >= sum(flows.back.values()) * 43 >= 50 * len(FLOWS) * 43
    assert abs(sum(rise[leg] for leg in LEGS) - rise["bond0"]) < rise["bond0"] / 10
