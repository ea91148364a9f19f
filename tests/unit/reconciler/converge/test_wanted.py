"""What loops add to a plan and amend of it: the plan wins, then the older owner, and what changed is owed."""

from __future__ import annotations

from typing import Any

from reconciler.converge.layers import Amend, Composed
from reconciler.converge.wanted import Scope, Wanted
from reconciler.kinds import KINDS
from schema.plan import HostPlan, Member, Nexthop, Peer, Resource, Route
from tests.unit.reconciler.worlds import key, peer, wg

OWNERS = {"backbone", "jit"}
PLANNED = peer("wg0", 9, "10.20.0.0/16", "10.21.0.0/16")
GROUP = Nexthop(id=50, group=(Member(id=1), Member(id=2)))
BASE: list[Resource] = [*wg(), PLANNED, GROUP, Route(dst="10.20.0.0/16", dev="wg0")]


def in_force(*owners: str, plan: list[Resource] | None = None) -> Wanted:
    wanted = Wanted(KINDS)
    for owner in owners:
        wanted.expect(owner, ())
    use(wanted, BASE if plan is None else plan)
    return wanted


def use(wanted: Wanted, plan: list[Resource]) -> Composed:
    composed = wanted.compose(HostPlan.of("h1", plan), str(len(plan)))
    wanted.use(composed)
    return composed


def route(number: int, dev: str = "wg0") -> Route:
    return Route(dst=f"10.{number}.0.0/16", dev=dev)


def name(resource: Resource) -> tuple[str, Any]:
    return resource.kind, resource.key


def ips(wanted: Wanted, number: int) -> tuple[str, ...]:
    found = wanted.current.get(("peer", ("wg0", key(number))))
    return found.allowed_ips if isinstance(found, Peer) else ()


# What is added


def test_what_is_added_is_wanted_and_owed_until_the_kernel_has_it() -> None:
    wanted = in_force()
    assert wanted.change("jit", [route(99)]) == []
    assert wanted.current.get(name(route(99))) == route(99)
    assert wanted.owed == {name(route(99)): None}
    wanted.settle(wanted.owed.copy())
    wanted.change("jit", [route(99, "wg1")])
    wanted.change("jit", [route(99, "wg2")])
    assert wanted.owed == {name(route(99)): route(99)}, "what the kernel has, and not what it never had"
    wanted.settle(wanted.owed.copy())
    wanted.change("jit", drop=[name(route(99))])
    assert wanted.current.get(name(route(99))) is None
    assert wanted.owed == {name(route(99)): route(99, "wg2")}


def test_what_is_added_again_as_it_was_is_not_owed() -> None:
    wanted = in_force()
    wanted.change("jit", [route(99)])
    wanted.settle(wanted.owed.copy())
    version = wanted.version
    wanted.change("jit", [route(99)])
    wanted.replace("jit", [route(99)])
    assert (wanted.owed, wanted.version) == ({}, version)


def test_an_owner_has_what_it_says_that_it_wants_and_no_more() -> None:
    wanted = in_force()
    wanted.replace("jit", [route(97), route(98)])
    wanted.replace("jit", [route(98), route(99)])
    assert [wanted.current.get(name(route(n))) is not None for n in (97, 98, 99)] == [False, True, True]


def test_a_thing_of_the_plan_is_refused() -> None:
    wanted = in_force()
    (refused,) = wanted.change("jit", [route(20, "wg1")])
    assert (refused.owner, refused.name, refused.text) == (
        "jit",
        name(route(20)),
        "route 10.20.0.0/16 metric 117 is the plan's",
    )
    assert wanted.current.get(name(route(20))) == route(20) and not wanted.owed


def test_a_prefix_of_the_plan_is_refused_and_another_one_is_not() -> None:
    wanted = in_force()
    (refused,) = wanted.change("jit", [peer("wg0", 8, "10.20.0.0/16"), peer("wg0", 7, "10.22.0.0/16")])
    assert refused.text == "10.20.0.0/16 belongs to peer wg0 p9"
    assert ips(wanted, 8) == () and ips(wanted, 7) == ("10.22.0.0/16",)
    assert wanted.change("jit", [peer("wg1", 8, "10.20.0.0/16")]) == [], "on another device"


def test_the_older_owner_wins_whoever_came_first() -> None:
    wanted = in_force("backbone", "jit")
    assert wanted.change("jit", [route(99), peer("wg0", 8, "10.22.0.0/16")]) == []
    assert wanted.change("backbone", [route(99, "wg1"), peer("wg0", 7, "10.22.0.0/16")]) == []
    assert wanted.current.get(name(route(99))) == route(99, "wg1")
    assert (ips(wanted, 7), ips(wanted, 8)) == (("10.22.0.0/16",), ())
    assert {(one.owner, one.text) for one in wanted.refusals(OWNERS)} == {("jit", "backbone is the older owner")}
    (refused,) = wanted.change("jit", [route(99)])
    assert refused.text == "route 10.99.0.0/16 metric 117 has an older owner"
    assert wanted.refusals(OWNERS) == []


# A new plan


def test_a_plan_that_wants_the_same_wins_and_its_loser_is_told() -> None:
    wanted = in_force()
    wanted.change("jit", [route(30), peer("wg0", 8, "10.30.0.0/16")])
    use(wanted, [*BASE, route(30, "wg1"), peer("wg0", 5, "10.30.0.0/16")])
    assert wanted.current.get(name(route(30))) == route(30, "wg1")
    assert (ips(wanted, 5), ips(wanted, 8)) == (("10.30.0.0/16",), ())
    assert {one.text for one in wanted.refusals(OWNERS)} == {
        "route 10.30.0.0/16 metric 117 is the plan's",
        "10.30.0.0/16 belongs to peer wg0 p5",
    }


def test_a_plan_that_is_taken_back_gives_back_what_it_took() -> None:
    wanted = in_force()
    wanted.change("jit", [route(30)])
    use(wanted, [*BASE, route(30, "wg1")])
    use(wanted, BASE)
    assert wanted.current.get(name(route(30))) == route(30)


def test_a_plan_that_is_confirmed_does_not() -> None:
    """What git revokes later is revoked, although a loop had once wanted it too."""
    wanted = in_force()
    wanted.change("jit", [peer("wg0", 8, "10.30.0.0/16")])
    use(wanted, [*BASE, peer("wg0", 8, "10.31.0.0/16")])
    wanted.confirm()
    use(wanted, BASE)
    assert ips(wanted, 8) == ()


# What is amended


def test_a_peer_of_the_plan_gains_and_loses_prefixes() -> None:
    wanted = in_force()
    amend = Amend("peer", PLANNED.key, gain=("10.51.0.1/32",), lose=("10.21.0.0/16",))
    assert wanted.change("backbone", amend=[amend]) == []
    assert ips(wanted, 9) == ("10.20.0.0/16", "10.51.0.1/32")
    assert wanted.owed == {name(PLANNED): PLANNED}
    wanted.change("backbone", drop=[name(PLANNED)])
    assert wanted.current.get(name(PLANNED)) == PLANNED


def test_what_is_dropped_twice_is_dropped() -> None:
    wanted = in_force()
    wanted.change("backbone", amend=[Amend("peer", PLANNED.key, gain=("10.51.0.1/32",))])
    assert wanted.change("backbone", drop=[name(PLANNED), name(PLANNED)]) == []
    assert wanted.current.get(name(PLANNED)) == PLANNED


def test_a_group_of_the_plan_gains_and_loses_members_and_never_its_last() -> None:
    wanted = in_force()
    wanted.change("backbone", amend=[Amend("nexthop", GROUP.key, (Member(id=3),), (Member(id=1),))])
    found = wanted.current.get(name(GROUP))
    assert isinstance(found, Nexthop) and [member.id for member in found.group] == [2, 3]
    wanted.change("backbone", amend=[Amend("nexthop", GROUP.key, lose=GROUP.group)])
    assert wanted.current.get(name(GROUP)) == GROUP


def test_a_prefix_moves_between_peers_of_the_plan_in_one_change() -> None:
    other = peer("wg0", 8, "10.22.0.0/16")
    wanted = in_force(plan=[*BASE, other])
    moved = ("10.21.0.0/16",)
    assert wanted.change("backbone", amend=[Amend("peer", other.key, gain=moved)])[0].text == (
        "10.21.0.0/16 belongs to peer wg0 p9"
    )
    assert wanted.change(
        "backbone", amend=[Amend("peer", PLANNED.key, lose=moved), Amend("peer", other.key, gain=moved)]
    ) == []  # fmt: skip
    assert (ips(wanted, 9), ips(wanted, 8)) == (("10.20.0.0/16",), ("10.21.0.0/16", "10.22.0.0/16"))


def test_what_the_plan_has_back_is_no_longer_anybody_elses() -> None:
    wanted = in_force()
    wanted.change("backbone", amend=[Amend("peer", PLANNED.key, lose=("10.21.0.0/16",))])
    assert wanted.change("jit", [peer("wg0", 8, "10.21.0.0/16")]) == []
    wanted.change("backbone", drop=[name(PLANNED)])
    assert (ips(wanted, 9), ips(wanted, 8)) == (("10.20.0.0/16", "10.21.0.0/16"), ())
    assert [(one.owner, one.text) for one in wanted.refusals(OWNERS)] == [("jit", "the plan has it")]


def test_an_amendment_waits_for_what_the_plan_does_not_have_yet() -> None:
    wanted = in_force(plan=wg())
    wanted.change("backbone", amend=[Amend("peer", PLANNED.key, gain=("10.51.0.1/32",))])
    assert not wanted.owed
    use(wanted, BASE)
    assert "10.51.0.1/32" in ips(wanted, 9)


def test_the_order_in_which_prefixes_move_does_not_matter() -> None:
    """P loses a to Q; then b of P goes to R, and P is amended once more."""
    second, third = peer("wg0", 8), peer("wg0", 7)
    a, b = ("10.20.0.0/16",), ("10.21.0.0/16",)
    wanted = in_force(plan=[*BASE, second, third])
    both = [Amend("peer", second.key, gain=a), Amend("peer", PLANNED.key, lose=a)]
    assert wanted.change("backbone", amend=both) == []
    again = [Amend("peer", third.key, gain=b), Amend("peer", PLANNED.key, lose=a + b)]
    assert wanted.change("backbone", amend=again) == []
    assert (ips(wanted, 9), ips(wanted, 8), ips(wanted, 7)) == ((), a, b)
    (refused,) = wanted.change("jit", [peer("wg0", 6, *a)])
    assert refused.text == "10.20.0.0/16 belongs to peer wg0 p8"
    use(wanted, [*BASE, second, third, route(77)])
    assert (ips(wanted, 9), ips(wanted, 8), ips(wanted, 7)) == ((), a, b), "another plan changes nothing of that"
    assert wanted.refusals(OWNERS) == []


def test_what_has_changed_while_another_plan_was_tried_counts_after_it_was_taken_back() -> None:
    wanted = in_force()
    before = wanted.current
    use(wanted, [*wg(), GROUP])
    assert wanted.change("jit", [peer("wg0", 8, "10.20.0.0/16")]) == []
    wanted.use(before)
    assert (ips(wanted, 9), ips(wanted, 8)) == (("10.20.0.0/16", "10.21.0.0/16"), ())
    assert [one.text for one in wanted.refusals(OWNERS)] == ["10.20.0.0/16 belongs to peer wg0 p9"]


# After a restart


def test_what_lives_in_a_scope_waits_until_its_owner_has_spoken() -> None:
    wanted = in_force()
    client = ("peer", ("wg-clients", key(3)))
    wanted.expect("jit", [Scope("jit", "peer", ("wg-clients",))])
    assert wanted.claimed(client)
    assert not wanted.claimed(("peer", ("wg0", key(3)))) and not wanted.claimed(("route", ("wg-clients",)))
    wanted.change("jit")
    assert not wanted.claimed(client)


def test_an_owner_that_never_speaks_is_not_waited_for_for_ever() -> None:
    wanted = in_force()
    wanted.expect("jit", [Scope("jit", "peer")])
    wanted.waive()
    assert not wanted.claimed(("peer", ("wg-clients", key(3))))
