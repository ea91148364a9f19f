"""What a host says about its bonds."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from reconciler.kinds.link import BondState, Leg
from reconciler.loops.bonds import PLUG
from reconciler.loops.bonds.loop import BondsLoop
from reconciler.loops.bonds.policy import PATIENCE
from reconciler.report.report import Acquired, Candidate
from schema.plan import HostPlan, Runtime, WatchedBond
from tests.unit.reconciler.process.test_reconciler import World
from tests.unit.reconciler.worlds import ground, site

LEGS = (Leg("eno1", True, 1), Leg("eno2", True, 1))
WELL, ALONE = (
    BondState("802.3ad", "layer3+4", LEGS, 1, partner=True),
    BondState("802.3ad", "layer3+4", LEGS, 1, partner=False),
)
BOND = WatchedBond(name="bond0", mode="802.3ad", members=("eno1", "eno2"), tunnels=())


class Scripted:
    """A kernel with the bonds that a test gives it."""

    def __init__(self) -> None:
        self.bonds: dict[str, BondState] = {"bond0": WELL}

    def read(self, names: Collection[str]) -> tuple[dict[str, BondState], dict[str, int]]:
        return {name: state for name, state in self.bonds.items() if name in names}, {"eno1": 1, "eno2": 1}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def planned(world: World, commit: str, *bonds: WatchedBond) -> None:
    plan = HostPlan.of("h1", site(), Runtime(bonds=bonds or None))
    world.host.converge(Acquired(commit=commit, candidate=Candidate.of(commit, plan)))


def test_a_bond_that_fails_is_a_condition_until_it_works_or_is_no_more(world: World) -> None:
    kernel = Scripted()
    found = ground(world.host, PLUG)
    loop = BondsLoop(found, lambda: kernel)

    def look() -> None:
        asyncio.run(found.remark("Bond", loop.look()))

    look()
    assert "Bond" not in world.conditions()
    planned(world, "c1", BOND)
    look()
    assert world.conditions()["Bond"] == "True:Bonded"
    kernel.bonds["bond0"] = ALONE
    for _ in range(PATIENCE):
        look()
    assert world.conditions()["Bond"] == "False:NoPartner"
    assert any("nobody speaks LACP with bond0" in text for text in world.said)
    kernel.bonds["bond0"] = WELL
    look()
    assert world.conditions()["Bond"] == "True:Bonded"
    planned(world, "c2")
    look()
    assert "Bond" not in world.conditions()


def test_what_is_no_bond_on_this_machine_is_not_judged(world: World) -> None:
    kernel = Scripted()
    kernel.bonds.clear()
    planned(world, "c1", BOND)
    assert BondsLoop(ground(world.host, PLUG), lambda: kernel).look() is None
