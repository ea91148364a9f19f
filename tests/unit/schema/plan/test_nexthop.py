from __future__ import annotations

import pytest

from schema.plan import Member, Nexthop, Resilient

RESILIENT = Resilient(buckets=1024, idle_timer=5, unbalanced_timer=20)


def group(**weights: int) -> Nexthop:
    members = tuple(Member(id=int(name[1:]), weight=weight) for name, weight in weights.items())
    return Nexthop(id=7, group=members, resilient=RESILIENT)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (group(n1=1, n2=1), group(n1=1), "1/2"),
        (group(n1=1, n2=3), group(n1=1), "3/4"),
        (group(n1=1, n2=3), group(n2=3), "1/4"),
        (group(n1=1), group(n1=1, n2=1), "1/2"),
        (group(n1=3), group(n1=3, n2=1), "1/4"),
        (group(n1=1, n2=1), group(n1=3, n2=1), "1/4"),
        (group(n1=1, n2=1), group(n3=1), "1"),
    ],
)
def test_a_change_of_a_group_reorders_what_its_members_lose_by_their_weights(
    before: Nexthop, after: Nexthop, share: str
) -> None:
    assert Nexthop.cost(before, after).endswith(f"reorders {share} of its flows")
