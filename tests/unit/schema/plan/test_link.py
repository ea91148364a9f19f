"""What a change of a bond costs, before anybody makes it."""

from __future__ import annotations

import pytest

from schema.plan import BondOptions, Disruption, Link

BOND = Link(name="bond0", type="bond", mtu=1500, members=("eno1", "eno2"), bond=BondOptions())
BACKUP = BOND.model_copy(update={"bond": BondOptions(mode="active-backup")})


@pytest.mark.parametrize(
    ("before", "update", "cost"),
    [
        (BOND, {"members": ("eno1", "eno2", "eno3")}, Disruption.REORDERS),
        (BACKUP, {"members": ("eno1", "eno2", "eno3")}, Disruption.NONE),
        (BOND, {"members": ("eno1",)}, Disruption.REORDERS),
        (BOND, {"members": ("eno2", "eno1")}, Disruption.NONE),
        (BOND, {"bond": BondOptions(xmit_hash_policy="layer2")}, Disruption.REORDERS),
        (BOND, {"bond": BondOptions(miimon=50, min_links=1)}, Disruption.NONE),
        (BOND, {"bond": BondOptions(lacp_rate="fast")}, Disruption.DROPS),
        (BOND, {"bond": BondOptions(mode="balance-xor")}, Disruption.DROPS),
        (BACKUP, {"bond": BondOptions(mode="active-backup", primary="eno2")}, Disruption.REORDERS),
        (BOND, {"mtu": 9000}, Disruption.DROPS),
    ],
)
def test_what_a_change_of_a_bond_costs(before: Link, update: dict[str, object], cost: Disruption) -> None:
    assert Link.disruption(before, before.model_copy(update=update)) == cost


def test_options_at_the_kernels_default_leave_no_trace_in_a_plan() -> None:
    assert BondOptions().model_dump(exclude_none=True).keys() == {"mode", "xmit_hash_policy", "miimon"}


def test_a_device_that_becomes_one_of_another_type_drops_everything() -> None:
    bridge = Link(name="x0", type="bridge")
    assert Link.disruption(bridge, Link(name="x0", type="wireguard")) == Disruption.DROPS
    assert Link.disruption(bridge, bridge.model_copy(update={"mtu": 1400})) == Disruption.NONE
    assert Link.disruption(None, bridge) == Disruption.NONE and Link.disruption(bridge, None) == Disruption.DROPS
