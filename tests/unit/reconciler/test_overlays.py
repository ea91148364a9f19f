"""What loops add and amend, in an engine on a host: the plan is never held up by it, and nothing flaps."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.converge.layers import NO_USE, Amend
from reconciler.converge.wanted import Scope
from reconciler.cycle import preview
from reconciler.cycle.engine import Engine
from reconciler.cycle.leftovers import WINDOW
from reconciler.report.report import Acquired, Candidate
from schema.plan import PROTOCOL, Change, Firewall, HostPlan, Peer, ProbeTarget, Resource, Route, Runtime
from tests.fakes import FakeHost
from tests.unit.reconciler.converge.test_groups import DEVS, THREE, in_kernel
from tests.unit.reconciler.test_properties import DEVICES, PREFIXES, PROPERTY, new_host, plans
from tests.unit.reconciler.worlds import apply, engine_on, key, peer, site, wg

OWNERS = {"backbone", "jit"}
MORE = Route(dst="10.99.0.0/16", dev="wg0")
CLIENT = peer("wg0", 8, "10.51.0.1/32", endpoint=None)


def held(host: FakeHost, resource: Resource) -> Resource | None:
    one = host.stored[resource.kind].get(resource.key)
    return one.resource if one else None


# One delta


def test_a_delta_costs_one_operation_and_no_look(tmp_path: Path) -> None:
    host = FakeHost()
    looked: list[frozenset[str]] = []
    engine = engine_on(host, tmp_path, covered=looked.append)
    apply(engine, "c1", site())
    looked.clear()
    engine.wanted.change("jit", [CLIENT, MORE])
    report = engine.apply_owed()
    assert report is not None and report.done == {("peer", "create"): 1, ("route", "create"): 1}
    assert looked == []
    assert engine.converge().operations == 0


def test_a_link_of_a_loop_is_looked_at_as_it_takes_others_along(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    engine.wanted.change("exits", [*wg("wg7", 5007), peer("wg7", 7, "0.0.0.0/0")])
    assert engine.apply_owed() is None and engine.delivery.behind, "it takes as long as a process needs to start"
    assert engine.catch_up() is not None and held(host, peer("wg7", 7)) is not None
    engine.wanted.change("exits", drop=[("link", ("wg7",)), ("wireguard", ("wg7",)), ("peer", ("wg7", key(7)))])
    engine.apply_owed()
    assert engine.catch_up() is not None and ("wg7",) not in host.stored["link"]
    assert engine.converge().operations == 0


def test_a_prefix_moves_between_peers_of_the_plan(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    near, far = peer("wg0", 9, "10.20.0.0/16"), peer("wg0", 7, "10.51.0.1/32")
    apply(engine, "c1", [*wg(), near, far])
    gone = Amend("peer", far.key, lose=("10.51.0.1/32",))
    engine.wanted.change("backbone", amend=[gone, Amend("peer", near.key, gain=("10.51.0.1/32",))])
    report = engine.apply_owed()
    assert report is not None and report.operations == 2
    found = held(host, near)
    assert isinstance(found, Peer) and found.allowed_ips == ("10.20.0.0/16", "10.51.0.1/32")
    assert engine.converge().operations == 0
    apply(engine, "c2", [*wg(), near, far, MORE])
    assert held(host, near) == found, "a new commit changes nothing of that"


# A plan that says nothing more to a loop


CHAIN = Firewall(family="inet", table="filter", chain="GITWAN-EXIT-OUTPUT", hook="OUTPUT", rules=("-j DROP",))
SPEAKS = Runtime(probes=(ProbeTarget(kind="ping", target="10.20.0.1"),))


def with_a_loop(host: FakeHost, folder: Path) -> tuple[Engine, list[Change]]:
    """An engine whose plan speaks to the loop `exits`, which has put a tunnel; and what is deleted from now on."""
    engine = engine_on(host, folder, unneeded=lambda owner, runtime: owner == "exits" and not runtime.probes)
    engine.converge(Acquired(commit="c1", candidate=Candidate.of("c1", HostPlan.of("h1", [*site(), CHAIN], SPEAKS))))
    engine.wanted.change("exits", [*wg("wg7", 5007), peer("wg7", 7, "0.0.0.0/0")])
    engine.apply_owed()
    engine.catch_up()
    assert held(host, peer("wg7", 7)) is not None
    deleted: list[Change] = []
    apply_changes = host.apply

    def watched(kind: str, changes: Sequence[Change]) -> Any:
        deleted.extend(change for change in changes if change.after is None)
        return apply_changes(kind, changes)

    host.apply = watched  # type: ignore[method-assign]
    return engine, deleted


def test_what_it_has_put_goes_with_the_commit_before_what_refuses_traffic(tmp_path: Path) -> None:
    host = FakeHost()
    engine, deleted = with_a_loop(host, tmp_path)
    report = apply(engine, "c2", site())
    assert report.result == "changed"
    kinds = [change.resource.kind for change in deleted]
    assert kinds == ["peer", "wireguard", "link", "firewall"]
    assert engine.wanted.refusals({"exits"}) == [], "it reads the plan, too"
    assert [one.text for one in engine.wanted.change("exits", wg("wg7", 5007))] == [NO_USE] * 2
    assert engine.converge().operations == 0


def test_it_stays_where_the_commit_is_taken_back(tmp_path: Path) -> None:
    host = FakeHost()
    engine, _ = with_a_loop(host, tmp_path)
    host.fail_next("route", errno.EINVAL, 3)
    report = apply(engine, "c2", [*site(), MORE])
    assert report.rolled_back
    assert held(host, peer("wg7", 7)) is not None and held(host, CHAIN) == CHAIN


# A commit is not held up


def test_what_a_loop_wants_twice_stops_no_commit(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    engine.wanted.change("jit", [MORE])
    engine.apply_owed()
    report = apply(engine, "c2", [*site(), *wg("wg1", 5001), MORE.model_copy(update={"dev": "wg1"})])
    assert report.result == "changed"
    assert engine.wanted.refusals(OWNERS)[0].text == "route 10.99.0.0/16 metric 117 is the plan's"


def test_somebody_elses_route_in_a_loops_way_stops_no_commit(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    theirs = MORE.model_copy(update={"dev": "eth0"})
    host.add(theirs, 4)
    engine.wanted.change("jit", [MORE])
    engine.apply_owed()
    report = apply(engine, "c2", [*site(), *wg("wg1", 5001)])
    assert report.result == "changed" and report.confirmed and report.confirmed.commit == "c2"
    assert held(host, MORE) == theirs
    assert report.unmet and "somebody else's is there" in engine.wanted.refusals(OWNERS)[-1].text


def test_a_loops_resource_that_the_kernel_refuses_stops_no_commit_and_is_told_once(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    lost = MORE.model_copy(update={"dev": "wg9"})
    engine.wanted.change("jit", [lost])
    report = engine.apply_owed()
    assert report is not None and report.error is None and "No such device" in next(iter(report.unmet.values()))
    report = apply(engine, "c2", [*site(), *wg("wg1", 5001)])
    assert report.result == "changed" and report.unmet
    assert len(engine.wanted.refusals(OWNERS)) == 1
    report = apply(engine, "c3", [*site(), *wg("wg9", 5001)])
    assert not report.unmet and held(host, lost) == lost, "what was missing has come"


def test_what_a_loop_leaves_behind_and_cannot_be_deleted_stops_no_commit(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    engine.wanted.change("jit", [MORE])
    engine.apply_owed()
    host.fail_next("route", errno.EBUSY, 9)
    engine.wanted.change("jit", drop=[(MORE.kind, MORE.key)])
    engine.apply_owed()
    host.fail_next("route", errno.EBUSY, 9)
    report = apply(engine, "c2", [*site(), *wg("wg1", 5001)])
    assert report.result == "changed" and report.unmet, "it is not all well, and no fault of the commit"
    host.heal()
    assert not engine.converge().unmet and held(host, MORE) is None


def test_a_tunnel_that_dies_while_a_plan_is_tried_stays_out_when_it_is_taken_back(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    plan = [*THREE.resources, Route(dst="10.98.0.0/16", nhid=7)]
    engine.converge(Acquired(commit="c1", candidate=Candidate.of("c1", THREE)))
    engine.wanted.update_alive(DEVS, frozenset(DEVS))
    engine.apply_owed()
    candidate = Candidate.of("c2", HostPlan.of("h1", plan, THREE.runtime))

    def dies(stage: str) -> None:
        if stage == "verify" and engine.wanted.current.digest == candidate.digest:
            engine.wanted.update_alive(DEVS, frozenset({"wg1", "wg3"}))
            engine.apply_owed()
            host.fail_next("route", errno.EBUSY, 3)
            host.remove(plan[-1])

    engine.converger.on_stage = dies
    report = engine.converge(Acquired(commit="c2", candidate=candidate))
    assert report.rolled_back and in_kernel(host) == (1, 3)
    host.heal()
    assert engine.converge().operations == 0


def test_a_plan_that_cannot_be_had_with_an_amendment_is_had_without_it(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    planned = peer("wg0", 9, "10.20.0.0/16")
    apply(engine, "c1", [*wg(), peer("wg0", 7)])
    engine.wanted.change("backbone", amend=[Amend("peer", planned.key, gain=("10.51.0.1/32",))])
    apply_peer = host.apply

    def refusing(kind: str, changes: Any) -> Any:
        if kind == "peer" and any("10.51.0.1/32" in c.after.allowed_ips for c in changes if c.after):
            host.fail_next("peer", errno.EINVAL, len(changes))
        return apply_peer(kind, changes)

    host.apply = refusing  # type: ignore[method-assign]
    report = apply(engine, "c2", [*wg(), planned])
    assert report.result == "changed" and held(host, planned) is not None
    assert engine.wanted.refusals(OWNERS)[0].owner == "backbone"


# After a restart


def test_what_a_loop_had_put_there_outlives_the_agent_until_the_loop_has_spoken(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    other = peer("wg0", 7, "10.51.0.2/32", endpoint=None)
    engine.wanted.change("jit", [CLIENT, other])
    engine.apply_owed()

    scopes = [Scope("jit", "peer", ("wg0",))]
    again = engine_on(host, tmp_path)
    again.leftovers.protect("jit", scopes)
    assert again.restore().operations == 0
    assert {one.resource.key for one in again.leftovers.within(scopes)} == {CLIENT.key, other.key}
    again.wanted.change("jit", [CLIENT])
    again.converge()
    assert held(host, CLIENT) is not None and held(host, other) is None


def test_a_client_that_git_revoked_goes_although_a_loop_might_adopt_it(tmp_path: Path) -> None:
    host = FakeHost()
    written = peer("wg0", 5, "10.51.0.9/32", endpoint=None)
    apply(engine_on(host, tmp_path), "c1", [*site(), written])
    again = engine_on(host, tmp_path)
    scopes = [Scope("jit", "peer", ("wg0",))]
    again.leftovers.protect("jit", scopes)
    again.restore()
    assert again.leftovers.within(scopes) == []
    apply(again, "c2", site())
    assert held(host, written) is None


def test_a_loop_that_never_speaks_is_waited_for_a_minute(tmp_path: Path) -> None:
    host = FakeHost()
    now = [0.0]
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    engine.wanted.change("jit", [CLIENT])
    engine.apply_owed()
    again = engine_on(host, tmp_path, ticks=lambda: now[0])
    again.leftovers.protect("jit", [Scope("jit", "peer")])
    again.restore()
    now[0] = WINDOW
    assert again.converge().operations == 0
    now[0] += 1.0
    assert again.converge().done == {("peer", "delete"): 1}


# Whatever is drawn


@st.composite
def wishes(draw: st.DrawFn) -> tuple[list[Resource], list[Amend]]:
    """What a loop could want: more peers and routes, on devices that may not be there, and amendments."""
    put: dict[tuple[str, Any], Resource] = {}
    for number in draw(st.lists(st.integers(8, 13), unique=True, max_size=3)):
        device = draw(st.sampled_from(DEVICES))
        ips = tuple(sorted(draw(st.lists(st.sampled_from(PREFIXES), unique=True, max_size=2))))
        one = Peer(dev=device, public_key=key(number), allowed_ips=ips)
        put[one.kind, one.key] = one
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), unique=True, max_size=2)):
        route = Route(dst=prefix, dev=draw(st.sampled_from(DEVICES)))
        put[route.kind, route.key] = route
    amends = [
        Amend(
            "peer",
            (draw(st.sampled_from(DEVICES)), key(number)),
            tuple(draw(st.lists(st.sampled_from(PREFIXES), unique=True, max_size=1))),
            tuple(draw(st.lists(st.sampled_from(PREFIXES), unique=True, max_size=1))),
        )
        for number in draw(st.lists(st.integers(8, 10), unique=True, max_size=2))
    ]
    return list(put.values()), amends


@PROPERTY
@given(plans(), plans(), st.lists(st.tuples(st.sampled_from(["backbone", "jit"]), wishes()), max_size=4), st.data())
def test_the_plan_wins_the_next_commit_applies_and_nothing_is_changed_twice(
    first: list[Resource],
    second: list[Resource],
    wanted: list[tuple[str, tuple[list[Resource], list[Amend]]]],
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = new_host()
        engine = engine_on(host, Path(folder))
        apply(engine, "c1", first)
        for number, (owner, (put, amends)) in enumerate(wanted):
            drop = data.draw(st.lists(st.sampled_from([(one.kind, one.key) for one in put]))) if put else ()
            engine.wanted.change(owner, put, drop, amends)
            engine.apply_owed()
            if number == data.draw(st.integers(0, 3)):
                assert apply(engine, f"d{number}", second).error is None
        report = apply(engine, "c2", second)
        assert report.error is None and report.confirmed is not None and report.confirmed.commit == "c2"
        amended = {amend.name for overlay in engine.wanted.overlays.values() for amend in overlay.amends.values()}
        for resource in second:
            if (resource.kind, resource.key) not in amended:
                found = [one.resource for one in host.observe(resource.kind) if one.resource.key == resource.key]
                assert found, resource
                if isinstance(resource, Route):
                    assert resource in found
        overlays = engine.wanted.overlays.values()
        beside = {name for overlay in overlays for name in overlay.names()}
        for _ in range(2):
            changes = preview.convergence(engine).changes
            assert {(c.resource.kind, c.resource.key) for c in changes} <= beside, "but in vain"
            engine.converge()
        before = host.snapshot()
        engine.converge()
        assert engine.apply_owed() is None and host.snapshot() == before
        assert all(one.marker == PROTOCOL for one in host.observe("route") if one.resource.metric == 117)
