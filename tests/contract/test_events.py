"""What the kernel announces."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from reconciler.system.events import MOST, KernelEvents
from schema.plan import RESOURCES, Address, Firewall, Link, Nexthop, Resource, Route, Rule
from tests.contract.conftest import World
from tests.namespaces import ip, run

pytestmark = pytest.mark.parametrize("world", [pytest.param("real", marks=pytest.mark.root)], indirect=True)


def announced(watch: KernelEvents) -> set[str]:
    """All that has been announced until now."""
    found, more = watch.read()
    while more:
        kinds, more = watch.read()
        found |= kinds
    return found


@pytest.fixture
def watch(world: World) -> Iterator[KernelEvents]:
    watch = KernelEvents()
    yield watch
    watch.close()


@pytest.mark.parametrize(
    "made",
    [
        Address(dev="eth0", address="10.3.0.1/24"),
        Address(dev="eth0", address="fd03::1/64"),
        Link(name="br0", type="bridge"),
        Nexthop(id=1, family="inet", dev="eth0"),
        Route(dst="10.5.0.0/16", dev="eth0"),
        Route(dst="fd05::/32", dev="eth0"),
        Rule(family="inet", priority=9, table=9),
        Rule(family="inet6", priority=9, table=9),
        Firewall(family="inet", table="filter", chain="GITWAN-INPUT", hook="INPUT"),
    ],
)
def test_each_kind_is_announced(world: World, watch: KernelEvents, made: Resource) -> None:
    announced(watch)
    world.made(made)
    found: set[str] = set()
    while made.kind not in found:  # an IPv6 address is announced by a worker of the kernel, after its route
        assert select.select(watch.filenos(), [], [], 5)[0], found
        found |= announced(watch)


def test_what_was_read_is_not_announced_again(world: World, watch: KernelEvents) -> None:
    announced(watch)
    world.made(Route(dst="10.5.0.0/16", dev="eth0"))
    assert announced(watch) == {"route"}
    assert announced(watch) == set()


def test_a_link_that_goes_down_or_away_touches_what_lies_on_it(world: World, watch: KernelEvents) -> None:
    for words in ("link set eth0 down", "link del eth0"):
        announced(watch)
        ip(words)
        assert {"link", "address", "route", "nexthop", "peer"} <= announced(watch)


def test_lost_events_touch_every_kind(world: World, watch: KernelEvents) -> None:
    announced(watch)
    for _ in range(12):
        world.create(*(Route(dst=f"10.{i >> 8}.{i & 255}.0/24", dev="eth0") for i in range(5000)))
        run("ip route flush proto 117")
    assert announced(watch) == set(RESOURCES)


def test_a_storm_of_events_is_read_in_steps(world: World, watch: KernelEvents) -> None:
    announced(watch)
    world.create(*(Route(dst=f"10.{i >> 8}.{i & 255}.0/24", dev="eth0") for i in range(2 * MOST)))
    assert watch.read() == ({"route"}, True)
    assert watch.read() == ({"route"}, True)
    assert watch.read() == (set(), False)
