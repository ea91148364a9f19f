from __future__ import annotations

import pytest

from reconciler.kinds.base import Observed
from reconciler.kinds.nexthop import satisfies
from schema.plan import PROTOCOL, Member, Nexthop, Resilient

RESILIENT = Resilient(buckets=1024, idle_timer=5, unbalanced_timer=20)
ONE, TWO = Member(id=1, weight=2), Member(id=2)
GROUP = Nexthop(id=7, group=(ONE, TWO), resilient=RESILIENT)
SINGLE = Nexthop(id=1, family="inet", dev="wg0")


@pytest.mark.parametrize(
    ("found", "wanted", "enough"),
    [
        ({}, {}, True),
        ({"group": (TWO, ONE)}, {}, True),
        ({"group": (ONE,)}, {}, False),
        ({"group": (ONE, ONE, TWO)}, {}, False),
        ({"group": (ONE, Member(id=2, weight=3))}, {}, False),
        ({"resilient": None}, {}, False),
        ({"resilient": RESILIENT.model_copy(update={"idle_timer": 6})}, {}, False),
        ({"resilient": None}, {"resilient": None}, True),
    ],
)
def test_a_group_is_as_wanted_in_any_order_of_its_members(
    found: dict[str, object], wanted: dict[str, object], enough: bool
) -> None:
    there = GROUP.model_copy(update=found)
    assert satisfies(Observed(there, PROTOCOL), GROUP.model_copy(update=wanted), None) == enough


@pytest.mark.parametrize(
    ("found", "wanted", "enough"),
    [
        ({}, {}, True),
        ({}, {"family": None}, True),
        ({"family": "inet6"}, {"family": None}, True),
        ({"family": "inet6"}, {}, False),
        ({"dev": "wg1"}, {}, False),
        ({"via": "10.0.0.1"}, {}, False),
        ({"id": 2}, {}, False),
    ],
)
def test_a_way_is_as_wanted_by_all_that_it_says(
    found: dict[str, object], wanted: dict[str, object], enough: bool
) -> None:
    there = SINGLE.model_copy(update=found)
    assert satisfies(Observed(there, PROTOCOL), SINGLE.model_copy(update=wanted), None) == enough


def test_a_group_is_no_way() -> None:
    assert not satisfies(Observed(GROUP, PROTOCOL), SINGLE.model_copy(update={"id": 7}), None)
    assert not satisfies(Observed(SINGLE.model_copy(update={"id": 7}), PROTOCOL), GROUP, None)
