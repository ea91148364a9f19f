"""What must hold for every plan: design section 3."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schema.plan import (
    PROTOCOL,
    Address,
    Firewall,
    Link,
    Member,
    Nexthop,
    Peer,
    Resource,
    Route,
    Rule,
    SecretRef,
    Sysctl,
    Wireguard,
)
from tests.fakes import FakeHost, Killed
from tests.unit.reconciler.worlds import apply, engine_on, key

DEVICES = ("wg0", "wg1", "wg2")
PREFIXES = tuple(f"10.{i}.0.0/16" for i in range(8))
ENDPOINTS = (None, "198.51.100.1:5000", "198.51.100.2:5000")

PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@st.composite
def plans(draw: st.DrawFn) -> list[Resource]:
    """A plan that a compiler could have made: what it names is in it, and nothing contradicts itself."""
    devices = draw(st.lists(st.sampled_from(DEVICES), unique=True))
    ports = draw(st.permutations([5000, 5001, 5002]))
    found: list[Resource] = []
    for name, port in zip(devices, ports, strict=False):
        found += draw(tunnels(name, port))
    found += draw(st.sampled_from([[], [Sysctl(name="net/ipv4/ip_forward", value="1")]]))
    chain = Firewall(family="inet", table="filter", chain="GITWAN-INPUT", hook="INPUT")
    found += draw(st.sampled_from([[], [chain], [chain.model_copy(update={"rules": ("-i lo -j ACCEPT",)})]]))
    found += draw(ways_out([*devices, "eth1"]))
    tables = draw(st.lists(st.integers(100, 102), unique=True, max_size=2))
    return found + [Rule(family="inet", priority=1000 + table, table=table) for table in tables]


@st.composite
def tunnels(draw: st.DrawFn, name: str, port: int) -> list[Resource]:
    private = SecretRef(secret="private-key", fingerprint=key(draw(st.integers(1, 2))))
    found: list[Resource] = [
        Link(name=name, type="wireguard", mtu=draw(st.sampled_from([1380, 1420]))),
        Wireguard(dev=name, private_key=private, listen_port=port),
    ]
    if draw(st.booleans()):
        found.append(Address(dev=name, address=f"10.255.{port % 10}.{draw(st.sampled_from([1, 3]))}/31"))
    numbers = draw(st.lists(st.integers(8, 10), unique=True, max_size=3))
    free = draw(st.permutations(PREFIXES))
    for i, number in enumerate(numbers):
        ips = tuple(sorted(free[2 * i : 2 * i + draw(st.integers(0, 2))]))
        endpoint = draw(st.sampled_from(ENDPOINTS))
        found.append(Peer(dev=name, public_key=key(number), endpoint=endpoint, allowed_ips=ips))
    return found


@st.composite
def ways_out(draw: st.DrawFn, devices: list[str]) -> list[Resource]:
    """Nexthops, a group of them, and routes by device or nexthop."""
    numbers = draw(st.lists(st.integers(1, 4), unique=True, max_size=4))
    found: list[Resource] = [
        Nexthop(id=number, family="inet", dev=draw(st.sampled_from(devices))) for number in numbers
    ]
    if numbers and draw(st.booleans()):
        chosen = draw(st.lists(st.sampled_from(numbers), unique=True, min_size=1))
        found.append(Nexthop(id=50, group=tuple(Member(id=number) for number in sorted(chosen))))
        numbers = [*numbers, 50]
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), unique=True)):
        if numbers and draw(st.booleans()):
            found.append(Route(dst=prefix, nhid=draw(st.sampled_from(numbers))))
        else:
            found.append(Route(dst=prefix, dev=draw(st.sampled_from(devices))))
    return found


FOREIGN: list[Resource] = [
    Route(dst="10.1.0.0/16", dev="eth0", metric=20),
    Route(dst="0.0.0.0/0", dev="eth0", via="192.0.2.1", metric=100),
    Rule(family="inet", priority=500, table=100),
    Nexthop(id=900, family="inet", dev="eth0"),
    Address(dev="eth0", address="192.0.2.10/24"),
    Link(name="theirs", type="wireguard", mtu=1420),
    Wireguard(dev="theirs", private_key=SecretRef(secret="private-key", fingerprint=key(7)), listen_port=6000),
    Peer(dev="theirs", public_key=key(8), endpoint="198.51.100.9:1", allowed_ips=("10.1.0.0/16",)),
]


def new_host() -> FakeHost:
    host = FakeHost()
    for resource in FOREIGN:
        host.add(resource, 4 if isinstance(resource, Route | Nexthop) else None)
    return host


def ours(host: FakeHost, plan: list[Resource]) -> None:
    """Every resource of the plan is there, and everything foreign still is."""
    seen = {(kind, one.resource.key) for kind in host.stored for one in host.observe(kind)}
    assert {(r.kind, r.key) for r in [*plan, *FOREIGN]} <= seen


def foreign(host: FakeHost) -> set[Any]:
    keys = {(r.kind, r.key) for r in FOREIGN}
    every = ((kind, one) for kind in host.stored for one in host.observe(kind))
    return {(kind, one.resource, one.marker) for kind, one in every if (kind, one.resource.key) in keys}


@PROPERTY
@given(plans(), plans())
def test_converges_and_a_second_diff_is_empty(first: list[Resource], second: list[Resource]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = new_host()
        engine = engine_on(host, Path(folder))
        before = foreign(host)
        for commit, plan in (("c1", first), ("c2", second)):
            report = apply(engine, commit, plan)
            assert report.ok, report
            ours(host, plan)
            assert engine.converge().operations == 0
        assert foreign(host) == before


@PROPERTY
@given(plans(), plans())
def test_the_way_there_does_not_matter(first: list[Resource], second: list[Resource]) -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        roundabout, straight = new_host(), new_host()
        engine = engine_on(roundabout, Path(folder))
        apply(engine, "c1", first)
        apply(engine, "c2", second)
        apply(engine_on(straight, Path(other)), "c2", second)
        assert settled(roundabout) == settled(straight)


def settled(host: FakeHost) -> dict[str, frozenset[Any]]:
    """A snapshot without what a plan says nothing about: the endpoint of a peer that the plan gives none."""
    shown = host.snapshot()
    shown["peer"] = frozenset(
        (one.resource.model_copy(update={"endpoint": None}), one.marker) for one in host.observe("peer")
    )
    return shown


@PROPERTY
@given(plans(), plans(), st.integers(0, 40))
def test_from_any_prefix_of_a_run_there_is_a_way_back(
    first: list[Resource], second: list[Resource], operations: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = new_host()
        apply(engine_on(host, Path(folder)), "c1", first)
        before = settled(host)
        host.die_after(operations)
        try:
            apply(engine_on(host, Path(folder)), "c2", second)
        except Killed:
            pass
        else:
            return  # the run was shorter than that
        host.die_after(None)
        engine = engine_on(host, Path(folder))
        report = engine.restore()
        assert report.error is None, report.error.message
        assert settled(host) == before
        assert engine.converge().operations == 0


@PROPERTY
@given(plans(), st.data())
def test_drift_of_any_kind_is_repaired(plan: list[Resource], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = new_host()
        engine = engine_on(host, Path(folder))
        apply(engine, "c1", plan)
        before = settled(host)
        stored = [r for r in plan if not isinstance(r, Sysctl)]
        for resource in data.draw(st.lists(st.sampled_from(stored))) if stored else []:
            host.remove(resource)
        assert engine.converge().ok
        assert settled(host) == before


@PROPERTY
@given(plans())
def test_removal_leaves_the_host_as_it_was(plan: list[Resource]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = new_host()
        before = host.snapshot()
        engine = engine_on(host, Path(folder))
        apply(engine, "c1", plan)
        assert engine.remove().ok
        assert host.snapshot() == before


@PROPERTY
@given(plans(), plans(), st.lists(st.tuples(st.sampled_from(["link", "peer", "route", "nexthop"]), st.integers(1, 4))))
def test_refusals_end_in_the_old_or_the_new_plan(
    first: list[Resource], second: list[Resource], refusals: list[tuple[str, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = new_host()
        engine = engine_on(host, Path(folder))
        apply(engine, "c1", first)
        old = settled(host)
        for kind, count in refusals:
            host.fail_next(kind, 16, count)
        report = apply(engine, "c2", second)
        for _ in range(6):  # what is refused while going back is tried again, as the agent does after a pause
            if engine.converge().error is None:
                break
        if report.result in ("rolled back", "failed"):
            assert settled(host) == old
        else:
            ours(host, second)
        assert all(one.marker != PROTOCOL for one in host.observe("route") if one.resource.metric != 117)
