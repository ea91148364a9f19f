"""Kernels without nexthop objects (before 5.3) or without resilient groups (before 5.13), as they refuse them."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from reconciler.kinds import KINDS
from reconciler.system.multipath import NexthopTable
from reconciler.system.netlink import Message, Netlink, attributes
from reconciler.system.nexthop import NHA_RES_GROUP, NHMSG, RTM_GETNEXTHOP, RTM_NEWNEXTHOP, NexthopDriver
from reconciler.system.route import RouteDriver
from schema.plan import Change, Member, Nexthop, Resilient, Resource, Route
from tests.contract.conftest import needs_root
from tests.namespaces import ip, private_network, run

pytestmark = pytest.mark.root

RESILIENT = Resilient(buckets=1024, idle_timer=5, unbalanced_timer=20)
WAYS = [Nexthop(id=n, family="inet", dev=dev) for n, dev in enumerate(("way1", "way2", "way3"), 1)]
ROUTE = Route(dst="10.9.0.0/16", nhid=10)


class WithoutObjects(Netlink):
    """As Linux 5.2: it does not know the messages."""

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        if kind == RTM_GETNEXTHOP:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return super().dump(kind, body)

    def batch(self, messages: Sequence[Message]) -> dict[int, OSError]:
        assert not [kind for kind, _, _ in messages if kind == RTM_NEWNEXTHOP]
        return super().batch(messages)


class WithoutResilience(Netlink):
    """As Linux 5.12: it does not know the attribute."""

    def batch(self, messages: Sequence[Message]) -> dict[int, OSError]:
        errors: dict[int, OSError] = {}
        for position, message in enumerate(messages):
            kind, _, body = message
            if kind == RTM_NEWNEXTHOP and NHA_RES_GROUP in attributes(body, NHMSG.size):
                errors[position] = OSError(errno.EINVAL, "Invalid argument")
            else:
                errors |= {position + at: error for at, error in super().batch([message]).items()}
        return errors


def group(*members: tuple[int, int]) -> Nexthop:
    return Nexthop(id=10, group=tuple(Member(id=i, weight=w) for i, w in members), resilient=RESILIENT)


class Host:
    def __init__(self, netlink: Netlink) -> None:
        table = NexthopTable()
        self.drivers = {"nexthop": NexthopDriver(netlink, table), "route": RouteDriver(netlink, table)}
        for n in (1, 2, 3):
            ip(f"link add way{n} up type veth peer name far{n}")
            ip(f"link set far{n} up")
        self.observed()

    def observed(self) -> set[Resource]:
        return {
            one.resource
            for kind, driver in self.drivers.items()
            for one in driver.observe()
            if KINDS[kind].owns(one)  # type: ignore[arg-type]
        }

    def apply(self, before: Resource | None, after: Resource | None) -> None:
        kind = (after or before).kind  # type: ignore[union-attr]
        assert self.drivers[kind].apply([Change(before, after)]) == []

    def ways(self) -> dict[str, int]:
        """Interface -> weight, as the kernel says."""
        route: dict[str, Any] = json.loads(run("ip -j route show 10.9.0.0/16"))[0]
        return {hop["dev"]: hop.get("weight", 1) for hop in route.get("nexthops") or [route]}


@pytest.fixture(params=[WithoutObjects, WithoutResilience])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    needs_root()
    with private_network():
        yield Host(request.param())


def test_a_route_over_a_group_and_the_group_changes(host: Host) -> None:
    first, second, third = group((1, 1), (2, 3)), group((1, 1), (2, 3), (3, 1)), group((3, 1))
    for way in WAYS:
        host.apply(None, way)
    host.apply(None, first)
    host.apply(None, ROUTE)
    assert {*WAYS, first, ROUTE} <= host.observed()
    for before, after, weights in (
        (first, second, {"way1": 1, "way2": 3, "way3": 1}),
        (second, third, {"way3": 1}),
        (third, first, {"way1": 1, "way2": 3}),
    ):
        host.apply(before, after)
        seen = host.observed()
        assert after in seen
        if ROUTE not in seen:  # without objects the route itself has to follow
            host.apply(next(one for one in seen if one.key == ROUTE.key and one.kind == "route"), ROUTE)
        assert {after, ROUTE} <= host.observed()
        assert ways_of(host, after) == weights


def ways_of(host: Host, wanted: Nexthop) -> dict[str, int]:
    found = host.ways()
    if None not in found and "nhid" not in run("ip route show 10.9.0.0/16"):
        return found
    members = json.loads(run(f"ip -j nexthop show id {wanted.id}"))[0]["group"]
    return {f"way{member['id']}": member.get("weight", 1) for member in members}


def test_groups_of_both_families_over_the_same_ways(host: Host) -> None:
    """And a group of one, whose weight no route keeps."""
    six = [Nexthop(id=20 + n, family="inet6", dev=way.dev) for n, way in enumerate(WAYS, 1)]
    group6 = Nexthop(id=30, group=tuple(Member(id=way.id, weight=2) for way in six[:2]), resilient=RESILIENT)
    route6 = Route(dst="fd09::/32", nhid=30)
    wanted = [*WAYS, *six, group((1, 2), (2, 2)), group6, ROUTE, route6]
    for resource in wanted:
        host.apply(None, resource)
    assert set(wanted) <= host.observed()
    one, one6 = group((1, 2)), group6.model_copy(update={"group": (Member(id=21, weight=2),)})
    for before, after in ((group((1, 2), (2, 2)), one), (group6, one6)):
        host.apply(before, after)
    for route in (ROUTE, route6):
        seen = next(found for found in host.observed() if found.key == route.key and found.kind == "route")
        if seen != route:
            host.apply(seen, route)
    assert {one, one6, ROUTE, route6} <= host.observed()


def test_what_is_deleted_is_gone(host: Host) -> None:
    for resource in (*WAYS, group((1, 1), (2, 1)), ROUTE):
        host.apply(None, resource)
    for resource in (ROUTE, group((1, 1), (2, 1)), *WAYS):
        host.apply(resource, None)
    assert host.observed() == set() and not run("ip route show 10.9.0.0/16")


def test_a_group_whose_way_is_gone_is_refused(host: Host) -> None:
    host.apply(None, WAYS[0])
    wrong = Nexthop(id=10, group=(Member(id=1), Member(id=99)), resilient=RESILIENT)
    failures = host.drivers["nexthop"].apply([Change(None, wrong)]) or host.drivers["route"].apply(
        [Change(None, ROUTE)]
    )
    assert [failure.code for failure in failures] in (["EINVAL"], ["ENODEV"])
