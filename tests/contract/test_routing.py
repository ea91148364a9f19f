"""Addresses, nexthops, routes and rules."""

from __future__ import annotations

import pytest

from schema.plan import Address, Change, Link, Nexthop, Resource, Route, Rule
from schema.plan.nexthop import Member, Resilient
from tests.contract.conftest import World

FOUR = Address(dev="eth0", address="10.0.0.1/24")
SIX = Address(dev="eth0", address="fd00::1/64")
RESILIENT = Resilient(buckets=1024, idle_timer=5, unbalanced_timer=20)
BRIDGE = Link(name="br0", type="bridge")
WAYS = (
    Nexthop(id=1, family="inet", dev="eth0"),
    Nexthop(id=2, family="inet", dev="eth0", via="10.0.0.2"),
    Nexthop(id=3, family="inet6", dev="eth0"),
    Nexthop(id=4, family="inet6", dev="eth0", via="fd00::2"),
    Nexthop(id=10, group=(Member(id=1), Member(id=2, weight=3))),
    Nexthop(id=11, group=(Member(id=3), Member(id=4))),
    Nexthop(id=12, group=(Member(id=1), Member(id=2, weight=3)), resilient=RESILIENT),
    Nexthop(id=13, group=(Member(id=3),), resilient=RESILIENT),
)
ROUTES = (
    Route(dst="10.5.0.0/16", dev="eth0"),
    Route(dst="10.6.0.0/16", dev="eth0", via="10.0.0.9", src="10.0.0.1"),
    Route(dst="10.7.0.0/16", dev="eth0", via="fd00::9"),
    Route(dst="10.8.0.0/16", nhid=10),
    Route(dst="10.9.0.0/16", type="blackhole"),
    Route(dst="0.0.0.0/0", dev="eth1", table=1000),
    Route(dst="fd05::/32", dev="eth0"),
    Route(dst="fd06::/32", dev="eth0", via="fd00::9", src="fd00::1"),
    Route(dst="fd07::/32", nhid=11, metric=5),
    Route(dst="fd08::/32", type="unreachable", table=70000),
    Route(dst="::/0", dev="eth1", table=1000),
)
RULES = (
    Rule(family="inet", priority=100, table=1000, fwmark=0x75, fwmask=0xFF),
    Rule(family="inet", priority=100, table=1000, fwmark=0x75),
    Rule(family="inet", priority=102, table=254, suppress_prefixlength=0),
    Rule(family="inet", priority=103, table=1000, fwmark=5, invert=True),
    Rule(family="inet", priority=105, table=9, src="10.0.0.0/8"),
    Rule(family="inet6", priority=101, table=70000, src="fd00::/64", dst="fd01::/64", iif="eth0", oif="eth1"),
    Rule(family="inet6", priority=102, table=254, suppress_prefixlength=0),
    Rule(family="inet6", priority=104, table=1000, fwmark=0, fwmask=1),
)


@pytest.fixture
def ready(world: World) -> World:
    world.made(FOUR, SIX, *WAYS)
    return world


@pytest.mark.parametrize("kind, wanted", [("nexthop", WAYS), ("route", ROUTES), ("rule", RULES)])
def test_what_was_created_is_observed_equal_and_twice_is_once(
    ready: World, kind: str, wanted: tuple[Resource, ...]
) -> None:
    assert ready.create(*wanted) == []
    assert ready.ours(kind) == set(wanted)
    assert ready.create(*wanted) == []
    assert len([one for one in ready.observe(kind) if one.resource in wanted]) == len(wanted)
    assert ready.satisfied(*wanted)


@pytest.mark.parametrize("kind, wanted", [("nexthop", WAYS), ("route", ROUTES), ("rule", RULES)])
def test_deleting_twice_is_deleting_once(ready: World, kind: str, wanted: tuple[Resource, ...]) -> None:
    ready.made(*wanted)
    assert ready.delete(*reversed(wanted)) == []
    assert ready.ours(kind) == set()
    assert ready.delete(*wanted) == []


def test_a_resilient_group_changes_members_and_timers_in_place_but_neither_type_nor_buckets(ready: World) -> None:
    before = WAYS[6]
    for after in (
        before.model_copy(update={"group": (Member(id=1),)}),
        before.model_copy(update={"resilient": Resilient(buckets=1024, idle_timer=7, unbalanced_timer=9)}),
    ):
        assert ready.apply(Change(before, after)) == []
        assert ready.satisfied(after) and not ready.satisfied(before)
        before = after
    for after in (
        before.model_copy(update={"resilient": None}),
        before.model_copy(update={"resilient": Resilient(buckets=512, idle_timer=7, unbalanced_timer=9)}),
    ):
        assert [failure.code for failure in ready.apply(Change(before, after))] == ["EINVAL"]
        assert ready.satisfied(before)


def test_addresses(world: World) -> None:
    world.made(FOUR, SIX)
    assert world.create(FOUR, SIX) == []
    assert world.ours("address") == {FOUR, SIX}
    assert world.delete(FOUR, SIX) == []
    assert world.delete(FOUR, SIX) == []
    assert world.ours("address") == set()


FORMS = [
    {"dev": "eth0"}, {"dev": "eth1"}, {"dev": "eth0", "via": "fd00::9"}, {"dev": "eth0", "via": "fd00::8"},
    {"nhid": 0}, {"type": "blackhole"}, {"type": "unreachable"},
]  # fmt: skip


@pytest.mark.parametrize("dst, group", [("10.50.0.0/16", 10), ("fd50::/32", 11)])
def test_a_route_of_any_form_turns_into_any_other_and_stays_one(ready: World, dst: str, group: int) -> None:
    forms = [Route(dst=dst, **{**form, **({"nhid": group} if "nhid" in form else {})}) for form in FORMS]
    for before in forms:
        for after in forms:
            ready.made(before)
            assert ready.apply(Change(before, after)) == []
            assert [one.resource for one in ready.observe("route") if one.resource.dst == dst] == [after]
            assert ready.delete(after) == []


def test_another_owners_route_is_not_replaced_nor_deleted(world: World) -> None:
    theirs = Route.model_construct(
        None, kind="route", table=254, dst="10.5.0.0/16", metric=117, type="unicast", dev="eth1"
    )
    words = "route add 10.5.0.0/16 dev eth1 metric 117 protocol 4"
    world.add_foreign(Route(dst="10.5.0.0/16", dev="eth1"), words)
    failures = world.create(Route(dst="10.5.0.0/16", dev="eth0"))
    assert [failure.code for failure in failures] == ["EEXIST"]
    assert world.create(Route(dst="10.5.0.0/16", dev="eth1")) == []
    assert world.delete(Route(dst="10.5.0.0/16", dev="eth1")) == []
    assert theirs.key in {route.key for route in world.foreign("route")}


def test_other_owners_objects_survive_and_are_reported_as_theirs(world: World) -> None:
    world.made(FOUR)
    address, rule = Address(dev="eth0", address="10.9.0.1/24"), RULES[4]
    nexthop = Nexthop(id=7, family="inet", dev="eth1")
    world.add_foreign(address, "address add 10.9.0.1/24 dev eth0")
    world.add_foreign(rule, "rule add priority 105 from 10.0.0.0/8 lookup 9")
    world.add_foreign(nexthop, "nexthop add id 7 dev eth1 protocol 4")
    for theirs in (address, rule, nexthop):
        assert world.delete(theirs) == []
        assert theirs in world.foreign(theirs.kind)
        assert world.create(theirs) == []
        assert theirs in world.foreign(theirs.kind)
    assert world.create(Nexthop(id=7, family="inet", dev="eth0"))[0].code == "EEXIST"


def test_ours_and_theirs_differ_in_the_metric_and_stand_side_by_side(world: World) -> None:
    world.add_foreign(Route(dst="10.5.0.0/16", dev="eth1", metric=50), "route add 10.5.0.0/16 dev eth1 metric 50")
    world.made(ROUTES[0])
    assert len([one for one in world.observe("route") if one.resource.dst == "10.5.0.0/16"]) == 2
    assert world.delete(ROUTES[0]) == []
    assert {route.metric for route in world.foreign("route") if route.dst == "10.5.0.0/16"} == {50}


def test_an_address_is_adopted_where_the_kernel_can_or_that_is_told(world: World) -> None:
    world.add_foreign(FOUR, "address add 10.0.0.1/24 dev eth0")
    assert world.ours("address") == set()
    failures = world.apply(Change(FOUR, FOUR))
    if failures:
        assert [failure.code for failure in failures] == ["EOPNOTSUPP"]
    assert (FOUR in world.ours("address")) is (not failures)
    assert (FOUR in world.foreign("address")) is bool(failures)


def test_a_batch_tells_what_failed_and_does_the_rest(world: World) -> None:
    good = [Route(dst=f"10.50.{i}.0/24", dev="eth0") for i in range(99)]
    bad = Route(dst="10.51.0.0/24", nhid=999)
    missing = Route(dst="10.52.0.0/24", dev="gone")
    failures = world.create(*good[:50], bad, missing, *good[50:])
    assert {failure.change.after: failure.code for failure in failures} == {bad: "EINVAL", missing: "ENODEV"}
    assert world.ours("route") == set(good)


def test_a_nexthop_that_goes_takes_its_routes_and_shrinks_its_groups(ready: World) -> None:
    routes = (Route(dst="10.5.0.0/16", nhid=1), Route(dst="10.8.0.0/16", nhid=10))
    ready.made(*routes)
    assert ready.delete(WAYS[0]) == []
    assert ready.ours("route") == {routes[1]}
    assert Nexthop(id=10, group=(Member(id=2, weight=3),)) in ready.ours("nexthop")
    assert ready.delete(WAYS[1]) == []
    assert ready.ours("route") == set()
    assert {nexthop.id for nexthop in ready.ours("nexthop")} == {3, 4, 11, 13}


def test_a_group_changes_in_place_under_its_routes(ready: World) -> None:
    route = Route(dst="10.8.0.0/16", nhid=10)
    ready.made(route)
    after = Nexthop(id=10, group=(Member(id=2), Member(id=1, weight=7)))
    assert ready.apply(Change(WAYS[4], after)) == []
    assert ready.satisfied(after, route)


def test_a_link_that_goes_takes_everything_on_it(world: World) -> None:
    address, way = Address(dev="br0", address="10.3.0.1/24"), Nexthop(id=20, family="inet", dev="br0")
    group = Nexthop(id=21, group=(Member(id=20),))
    world.made(BRIDGE, address, way, group)
    world.made(Route(dst="10.61.0.0/16", dev="br0"), Route(dst="10.62.0.0/16", nhid=21), RULES[0])
    assert world.delete(BRIDGE) == []
    for kind in ("link", "address", "nexthop", "route"):
        assert world.ours(kind) == set()
    assert world.ours("rule") == {RULES[0]}
    for gone in (address, way, group, Route(dst="10.61.0.0/16", dev="br0")):
        assert world.delete(gone) == []


def test_what_needs_an_interface_that_is_not_there_is_refused(world: World) -> None:
    for wanted in (
        Address(dev="gone", address="10.3.0.1/24"),
        Nexthop(id=20, family="inet", dev="gone"),
        Route(dst="10.61.0.0/16", dev="gone"),
    ):
        assert [failure.code for failure in world.create(wanted)] == ["ENODEV"]
