"""Groups of nexthops hold what is alive; traffic follows, and an agent that starts again leaves what has moved."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.converge import groups
from reconciler.cycle.engine import Engine
from reconciler.kinds.base import Observed, Session
from reconciler.report.report import Acquired, Candidate
from schema.plan import (
    PROTOCOL,
    HostPlan,
    Lost,
    Member,
    Nexthop,
    Resilient,
    Resource,
    Route,
    Runtime,
    Standby,
    Takeover,
    Watch,
    WatchedTunnel,
)
from tests.fakes import FakeHost
from tests.unit.reconciler.worlds import engine_on, key, peer, wg

RESILIENT = Resilient(buckets=1024, idle_timer=5, unbalanced_timer=20)
DEVS = ("wg1", "wg2", "wg3", "wg4")
WAYS = [Nexthop(id=10 * n, family="inet", dev=f"wg{n}") for n in (1, 2, 3, 4)]
ROUTE = Route(dst="10.20.0.0/16", nhid=7)


def group(*members: int) -> Nexthop:
    return Nexthop(id=7, group=tuple(Member(id=10 * n, weight=n) for n in members), resilient=RESILIENT)


def watch(*devs: str) -> Watch:
    tunnels = tuple(WatchedTunnel(dev=dev, public_key=key(9)) for dev in devs)
    return Watch(
        name="a~b", source="fe80::1", target="fe80::2", tunnels=tunnels, size=1420, interval=0.2, misses=3,
        loss=0.2, hold=10.0,
    )  # fmt: skip


def plan(first: Nexthop, runtime: Runtime | None = None) -> HostPlan:
    devices = [resource for n, dev in enumerate(DEVS) for resource in (*wg(dev, 5000 + n), peer(dev, 9))]
    return HostPlan.of("h1", [*devices, *WAYS, first, ROUTE], runtime or Runtime(watches=(watch(*DEVS),)))


def wanted(plan: HostPlan, *alive: str, instead: Resource | None = None) -> list[Resource]:
    """The plan's resources, given what is alive; `instead` stands in the place of one of them already."""
    found = {(one.kind, one.key): one for one in plan.resources}
    if instead is not None:
        found[instead.kind, instead.key] = instead
    nexthops = {one.key: one for one in found.values() if isinstance(one, Nexthop)}
    return list({**found, **groups.moved(plan.runtime, nexthops, frozenset(alive))}.values())


def held(plan: HostPlan, *alive: str) -> tuple[int, ...]:
    """The members of the group, given what is alive."""
    found = [one for one in wanted(plan, *alive) if isinstance(one, Nexthop)]
    return tuple(member.id // 10 for one in found for member in one.group)


THREE = plan(group(1, 2, 3))
TIERED = plan(
    group(1, 2),
    Runtime(
        watches=(watch(*DEVS),), standbys=(Standby(id=7, tiers=(group(3).group, group(4).group)),),
        lost=(Lost(devs=DEVS, resources=(ROUTE.model_copy(update={"nhid": None, "type": "unreachable"}),)),),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    "alive, members",
    [
        (("wg1", "wg2", "wg3"), (1, 2, 3)),
        (("wg1", "wg3"), (1, 3)),
        (("wg2",), (2,)),
        ((), (1, 2, 3)),  # nothing better is known
    ],
)
def test_a_group_holds_what_is_alive(alive: tuple[str, ...], members: tuple[int, ...]) -> None:
    assert held(THREE, *alive) == members


@pytest.mark.parametrize(
    "alive, members",
    [
        (DEVS, (1, 2)),
        (("wg2", "wg3", "wg4"), (2,)),
        (("wg3", "wg4"), (3,)),
        (("wg4",), (4,)),
        ((), (1, 2)),
    ],
)
def test_while_a_tier_is_dead_the_next_one_serves(alive: tuple[str, ...], members: tuple[int, ...]) -> None:
    assert held(TIERED, *alive) == members


def test_weights_stay() -> None:
    assert group(2, 3) in wanted(THREE, "wg2", "wg3")


def test_what_is_lost_with_all_tunnels_is_replaced_only_then() -> None:
    def route(*alive: str) -> str:
        return next(o.type for o in wanted(TIERED, *alive) if o.kind == "route")  # type: ignore[attr-defined]

    assert route("wg4") == "unicast" and route() == "unreachable"


def test_a_tunnel_that_nobody_watches_counts_as_alive() -> None:
    unwatched = plan(group(1, 2, 3), Runtime(watches=(watch("wg1"),)))
    assert held(unwatched) == (2, 3)
    assert held(plan(group(1, 2, 3), Runtime())) == (1, 2, 3)


def test_with_a_new_key_the_new_tunnel_is_judged() -> None:
    moved = Nexthop(id=10, family="inet", dev="wg4")
    assert group(1, 2, 3) in wanted(THREE, "wg2", "wg3", "wg4", instead=moved)
    assert group(2, 3) in wanted(THREE, "wg1", "wg2", "wg3", instead=moved)


@given(st.frozensets(st.sampled_from(DEVS)))
def test_a_group_is_never_empty_and_never_holds_what_is_dead_beside_what_is_alive(alive: frozenset[str]) -> None:
    members = held(TIERED, *alive)
    assert members
    if alive:
        assert {f"wg{n}" for n in members} <= alive


def test_before_any_probe_what_the_kernel_holds_is_alive() -> None:
    seen = {"nexthop": [Observed(one, PROTOCOL) for one in (*WAYS, group(1, 3))]}
    assert groups.standing(THREE.runtime, watch(*DEVS), seen) == ({"wg1", "wg3"}, {"wg2", "wg4"})
    fresh = [Observed(peer("wg2", 9), session=Session("192.0.2.1:5000", 20.0))]
    assert groups.standing(THREE.runtime, watch("wg2", "wg4"), {**seen, "peer": fresh}) == (frozenset(), {"wg2", "wg4"})
    foreign = {"nexthop": [Observed(one, 4) for one in (*WAYS, group(1, 3))]}
    assert groups.standing(THREE.runtime, watch(*DEVS), foreign) == (frozenset(), frozenset())


def test_without_groups_sessions_say_what_is_alive() -> None:
    fresh = [Observed(peer("wg1", 9), session=Session("192.0.2.1:5000", 20.0))]
    old = [Observed(peer("wg2", 9), session=Session("192.0.2.1:5001", 200.0))]
    assert groups.standing(THREE.runtime, watch(*DEVS), {"peer": fresh + old}) == ({"wg1"}, frozenset())


def test_a_whole_group_says_nothing_where_something_stands_in_the_stead_of_its_tunnels() -> None:
    assert TIERED.runtime.lost is not None
    nexthops = [Observed(one, PROTOCOL) for one in (*WAYS, group(1, 2))]
    stead = [Observed(one, PROTOCOL) for one in TIERED.runtime.lost[0].resources]
    assert groups.standing(TIERED.runtime, watch(*DEVS), {"nexthop": nexthops, "route": stead}) == (
        frozenset(),
        set(DEVS),
    )
    plain = {"nexthop": nexthops, "route": [Observed(ROUTE, PROTOCOL)]}
    assert groups.standing(TIERED.runtime, watch(*DEVS), plain) == ({"wg1", "wg2"}, {"wg3", "wg4"})


# In the engine


def apply(engine: Engine, commit: str, wanted: HostPlan) -> None:
    report = engine.converge(Acquired(commit=commit, candidate=Candidate.of(commit, wanted)))
    assert report.error is None and report.confirmed is not None and report.confirmed.commit == commit


def in_kernel(host: FakeHost) -> tuple[int, ...]:
    found = [one.resource for one in host.observe("nexthop") if one.resource.group]
    return tuple(member.id // 10 for one in found for member in one.group)


def test_traffic_leaves_what_died_and_nothing_else_is_touched(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", THREE)
    before = host.operations
    engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg3"}))
    report = engine.apply_owed()
    assert report is not None and report.error is None and report.mode == "move"
    assert in_kernel(host) == (1, 3) and host.operations == before + 1
    assert engine.apply_owed() is None and engine.converge().operations == 0
    engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg2", "wg3"}))
    assert engine.apply_owed() is not None and in_kernel(host) == (1, 2, 3)


def test_an_agent_that_starts_again_leaves_a_dead_tunnel_out(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", THREE)
    engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg3"}))
    engine.apply_owed()
    engine = engine_on(host, tmp_path)
    assert engine.restore().operations == 0 and in_kernel(host) == (1, 3)
    assert engine.wanted.alive == {"wg1", "wg3"} and [one.name for one in engine.runtime.watches or ()] == ["a~b"]


def test_a_tunnel_that_a_plan_adds_joins_when_it_is_alive(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", plan(group(1, 2), Runtime(watches=(watch("wg1", "wg2"),))))
    engine.wanted.update_alive(("wg1", "wg2"), frozenset({"wg1", "wg2"}))
    engine.apply_owed()
    apply(engine, "c2", THREE)
    assert in_kernel(host) == (1, 2)
    engine.wanted.update_alive(("wg1", "wg2", "wg3"), frozenset({"wg1", "wg2", "wg3"}))
    assert engine.apply_owed() is not None and in_kernel(host) == (1, 2, 3)


def test_a_tunnel_that_goes_and_comes_again_is_new(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", THREE)
    engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg2", "wg3"}))
    engine.apply_owed()
    apply(engine, "c2", plan(group(1, 2), Runtime(watches=(watch("wg1", "wg2"),))))
    assert engine.wanted.alive == {"wg1", "wg2"}
    apply(engine, "c3", THREE)
    assert in_kernel(host) == (1, 2)


def test_a_link_that_gets_more_tunnels_keeps_to_the_one_that_has_a_session(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", HostPlan.of("h1", [*wg("wg1", 5000), peer("wg1", 9)]))
    seen = host.stored["peer"]["wg1", key(9)]
    host.stored["peer"]["wg1", key(9)] = replace(seen, session=Session("198.51.100.1:5000", 3.0))
    apply(engine, "c2", THREE)
    assert in_kernel(host) == (1,)


def test_a_move_that_the_kernel_refuses_is_tried_again(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", THREE)
    host.fail_next("nexthop", errno.ENOBUFS, 9)
    engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg3"}))
    report = engine.apply_owed()
    assert report is not None and report.error is not None and in_kernel(host) == (1, 2, 3)
    host.heal()
    report = engine.apply_owed()
    assert report is not None and report.error is None and in_kernel(host) == (1, 3)


def test_a_rotation_and_a_death_at_once(tmp_path: Path) -> None:
    moved = Nexthop(id=10, family="inet", dev="wg4")
    takeover = Takeover(dev="wg4", public_key=key(9), resources=(moved,))
    rotating = plan(group(1, 2, 3), Runtime(watches=(watch(*DEVS),), takeovers=(takeover,)))
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", rotating)
    seen = host.stored["peer"]["wg4", key(9)]
    host.stored["peer"]["wg4", key(9)] = replace(seen, session=Session("198.51.100.1:5000", 3.0))
    engine.converge(kinds={"peer"}, cascade=False)
    engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg3", "wg4"}))
    assert engine.apply_owed() is not None
    ways: set[Resource] = {one.resource for one in host.observe("nexthop")}
    assert moved in ways and in_kernel(host) == (1, 3)


def test_a_session_of_another_peer_on_a_watched_device_is_none_of_the_links() -> None:
    """While a key is rotated a device has another peer beside the watched one."""
    runtime = Runtime(watches=(watch("wg1"),))
    other = Observed(peer("wg1", 8), session=Session(None, 5.0))
    right = Observed(peer("wg1", 9), session=Session(None, 5.0))
    assert groups.standing(runtime, watch("wg1"), {"peer": [other]})[0] == frozenset()
    assert groups.standing(runtime, watch("wg1"), {"peer": [other, right]})[0] == {"wg1"}


def test_a_link_is_given_up_where_all_that_stands_in_its_stead_is_there() -> None:
    instead = (Route(dst="10.20.0.0/16", dev="eth1"), Route(dst="10.21.0.0/16", dev="eth1"))
    runtime = Runtime(watches=(watch("wg1"),), lost=(Lost(devs=("wg1",), resources=instead),))
    held = [Observed(one, PROTOCOL) for one in (WAYS[0], group(1))]
    for there, alive in ((instead, False), (instead[:1], True), ((), True)):
        seen = {"nexthop": held, "route": [Observed(one, PROTOCOL) for one in there]}
        assert (groups.standing(runtime, watch("wg1"), seen)[0] == {"wg1"}) == alive
