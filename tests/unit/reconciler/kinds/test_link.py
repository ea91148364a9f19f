"""When an observed link is what the plan wants."""

from __future__ import annotations

import pytest

from reconciler.kinds.base import Observed
from reconciler.kinds.link import KIND
from schema.plan import BondOptions, Link

FOUND = Link(name="bond0", type="bond", mtu=1500, group=0, members=("eth0", "eth1"), bond=BondOptions())


@pytest.mark.parametrize(
    "change, satisfied",
    [
        ({}, True),
        ({"mtu": None, "group": None, "bond": None}, True),
        ({"members": ("eth1", "eth0")}, True),
        ({"members": ("eth0",)}, False),
        ({"mtu": 1400}, False),
        ({"group": 7}, False),
        ({"type": "bridge"}, False),
        ({"bond": BondOptions(miimon=50)}, False),
    ],
)
def test_what_the_plan_does_not_say_is_not_compared(change: dict[str, object], satisfied: bool) -> None:
    assert KIND.satisfies(Observed(FOUND, "gitwan"), FOUND.model_copy(update=change), None) is satisfied


def test_a_link_that_is_down_never_satisfies() -> None:
    assert not KIND.satisfies(Observed(FOUND, "gitwan", up=False), FOUND, None)


def test_every_field_of_a_link_is_known_here() -> None:
    known = {"kind", "name", "type", "mtu", "group", "members", "bond"}
    assert set(Link.model_fields) == known, "decide in reconciler/kinds/link.py whether the new field is compared"
