from __future__ import annotations

import pytest

from reconciler.converge.diff import ChangeSet, Desired, diff
from reconciler.converge.layers import NOTHING
from reconciler.kinds import KINDS
from reconciler.kinds.base import ALIAS, Observed, Session
from schema.plan import PROTOCOL, Change, Link, Resource, Route, Wireguard
from tests.unit.reconciler.worlds import peer, wg

ROUTE = Route(dst="10.0.0.0/8", dev="eth0")
OTHER = Route(dst="10.0.0.0/8", dev="eth1")


def run(
    desired: list[Resource], *observed: Observed[Resource], previous: Desired = NOTHING, adopt: bool = False
) -> ChangeSet:
    seen: dict[str, list[Observed[Resource]]] = {name: [] for name in KINDS}
    for one in observed:
        seen[one.resource.kind].append(one)
    return diff(Desired.of(desired, KINDS), seen, previous, KINDS, adopt=adopt)


@pytest.mark.parametrize(
    ("desired", "observed", "changes"),
    [
        ([ROUTE], [], [Change(None, ROUTE)]),
        ([ROUTE], [Observed(ROUTE, PROTOCOL)], []),
        ([ROUTE], [Observed(OTHER, PROTOCOL)], [Change(OTHER, ROUTE)]),
        ([], [Observed(OTHER, PROTOCOL)], [Change(OTHER, None)]),
        ([], [Observed(OTHER, 4)], []),
        ([ROUTE], [Observed(ROUTE, 4)], []),
    ],
    ids=["missing", "there", "differs", "surplus", "somebody else's", "somebody else's as wanted"],
)
def test_rules(desired: list[Resource], observed: list[Observed[Resource]], changes: list[Change]) -> None:
    found = run(desired, *observed)
    assert found.changes == changes
    assert not found.conflicts


def test_foreign_equal_is_satisfied_and_stays_foreign() -> None:
    assert run([ROUTE], Observed(ROUTE, 4)).satisfied_foreign == [ROUTE]


def test_foreign_different_is_a_conflict_that_names_both() -> None:
    found = run([ROUTE], Observed(OTHER, 4))
    assert not found.changes
    assert found.conflicts[0].text == (
        "route 10.0.0.0/8 dev eth0 metric 117: somebody else's is there: 10.0.0.0/8 dev eth1 metric 117 "
        "(gitwan agent adopt)"
    )


@pytest.mark.parametrize("there", [ROUTE, OTHER])
def test_adopt_marks_or_changes_what_is_foreign(there: Route) -> None:
    assert run([ROUTE], Observed(there, 4), adopt=True).changes == [Change(there, ROUTE)]


def test_own_one_wins_over_a_foreign_one_with_the_same_key() -> None:
    for order in ([Observed(OTHER, 4), Observed(ROUTE, PROTOCOL)], [Observed(ROUTE, PROTOCOL), Observed(OTHER, 4)]):
        found = run([ROUTE], *order)
        assert (found.changes, found.conflicts) == ([], [])


def test_surplus_of_ours_goes_and_the_right_one_stays() -> None:
    found = run([ROUTE], Observed(OTHER, PROTOCOL), Observed(ROUTE, PROTOCOL))
    assert found.changes == [Change(OTHER, None)]


def test_kinds_that_were_not_observed_are_left_alone() -> None:
    assert diff(Desired.of([ROUTE], KINDS), {"address": []}, NOTHING, KINDS).changes == []


# WireGuard on somebody else's device


def foreign_device(*peers: Resource) -> list[Observed[Resource]]:
    return [Observed(resource, None) for resource in [*wg(), *peers]]


def test_a_foreign_device_with_equal_peers_is_satisfied() -> None:
    found = run([*wg(), peer()], *foreign_device(peer()))
    assert (found.changes, found.conflicts) == ([], [])
    assert len(found.satisfied_foreign) == 3


@pytest.mark.parametrize("there", [[], [peer("wg0", 9, "10.0.0.0/8")]], ids=["missing", "different"])
def test_a_peer_on_a_foreign_device_is_a_conflict(there: list[Resource]) -> None:
    found = run([*wg(), peer()], *foreign_device(*there))
    assert not found.changes
    assert len(found.conflicts) == 1


def test_a_missing_peer_on_a_foreign_device_names_the_device() -> None:
    (conflict,) = run([*wg(), peer()], *foreign_device()).conflicts
    assert conflict.there == "device wg0 is somebody else's"


def test_an_adopted_device_is_adopted_whole() -> None:
    found = run([*wg(), peer("wg0", 9)], *foreign_device(peer("wg0", 8)), adopt=True)
    verbs = [(change.resource.kind, change.verb) for change in found.changes]
    assert sorted(verbs) == [("link", "change"), ("peer", "create"), ("peer", "delete"), ("wireguard", "change")]


def test_peers_of_other_devices_stay_when_one_is_adopted() -> None:
    others = [Observed(resource, None) for resource in [*wg("wg7", 7), peer("wg7", 8)]]
    found = run(wg(), *foreign_device(), *others, adopt=True)
    assert {change.resource.key[0] for change in found.changes} == {"wg0"}


# Roaming


def test_a_change_elsewhere_does_not_undo_roaming() -> None:
    before, after = peer("wg0", 9), peer("wg0", 9, "10.0.0.0/8")
    roamed = before.model_copy(update={"endpoint": "192.0.2.9:1"})
    from reconciler.kinds.base import Session

    seen = [Observed(r, ALIAS) for r in wg()] + [Observed(roamed, ALIAS, Session("192.0.2.9:1", 5.0))]
    (change,) = run([*wg(), after], *seen, previous=Desired.of([before], KINDS)).changes
    assert change.after == after.model_copy(update={"endpoint": "192.0.2.9:1"})


# What contradicts itself


def test_one_key_twice_is_a_clash() -> None:
    desired = Desired.of([ROUTE, OTHER], KINDS)
    assert [clash.text for clash in desired.clashes] == ["route 10.0.0.0/8 dev eth1 metric 117: wanted twice"]
    assert desired.kind("route") == {ROUTE.key: ROUTE}


def test_two_peers_of_one_device_cannot_have_one_allowed_ip() -> None:
    resources = [*wg(), peer("wg0", 8, "10.0.0.0/8"), peer("wg0", 9, "10.0.0.0/8")]
    found = run(resources, *(Observed(r, ALIAS) for r in wg()))
    assert [c.there for c in found.conflicts] == ["10.0.0.0/8 is also claimed by wg0 p8"]


def test_two_devices_may_have_one_allowed_ip() -> None:
    assert Desired.of([peer("wg0", 8, "10.0.0.0/8"), peer("wg1", 9, "10.0.0.0/8")], KINDS).clashes == ()


def test_a_link_that_is_down_is_changed() -> None:
    link, device = wg()
    assert isinstance(link, Link) and isinstance(device, Wireguard)
    found = run([link], Observed(link, ALIAS, up=False))
    assert [c.verb for c in found.changes] == ["change"]


def test_adopting_a_device_takes_its_own_peers_and_nobody_elses() -> None:
    mine, theirs = wg(), wg("theirs", 6000, number=7)
    gone, kept = peer("wg0", 8), peer("theirs", 8)
    observed = [Observed(one, None) for one in (*mine, *theirs, gone, kept)]
    found = run([*mine, peer("wg0", 9)], *observed, adopt=True)
    assert not found.conflicts
    assert {change.resource.key[0] for change in found.changes} == {"wg0"}
    assert Change(gone, None) in found.changes


def test_adopting_a_peer_leaves_it_where_it_has_roamed_to() -> None:
    wanted = peer("wg0", 9, "10.20.0.0/16")
    there = peer("wg0", 9, endpoint="192.0.2.7:4000")
    observed = [Observed(one, None) for one in wg()]
    found = run([*wg(), wanted], *observed, Observed(there, None, Session(there.endpoint, 5.0)), adopt=True)
    (change,) = (one for one in found.changes if one.resource.kind == "peer")
    assert change.after == wanted.model_copy(update={"endpoint": "192.0.2.7:4000"})


def test_of_two_of_somebody_elses_with_one_key_none_is_taken_away() -> None:
    found = run([], Observed(ROUTE, 4), Observed(OTHER, 4))
    assert found.changes == [] and found.conflicts == []
    ours = run([ROUTE], Observed(OTHER, PROTOCOL), Observed(ROUTE, PROTOCOL))
    assert ours.changes == [Change(OTHER, None)], "of two of ours the one that fits stays"
