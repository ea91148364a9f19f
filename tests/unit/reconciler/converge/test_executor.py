from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from reconciler.converge.executor import execute, plan_batches
from schema.plan import Change, Member, Nexthop, Resource, Route
from tests.fakes import FakeHost
from tests.unit.reconciler.worlds import site, wg


def create(resource: Resource) -> Change:
    return Change(None, resource)


def shape(changes: list[Change]) -> list[tuple[str, str, object]]:
    return [(kind, c.verb, c.resource.key[0]) for kind, batch in plan_batches(changes) for c in batch]


def test_creates_ascend_and_deletes_descend_after_them() -> None:
    new = Route(dst="10.9.0.0/16", dev="eth0")
    changes = [*(Change(resource, None) for resource in site()), create(new)]
    kinds = [kind for kind, _ in plan_batches(changes)]
    assert kinds == ["route", "route", "peer", "address", "wireguard", "link"]


def test_one_batch_per_kind() -> None:
    changes = [create(Route(dst=f"10.{i}.0.0/16", dev="eth0")) for i in range(9)]
    assert [(kind, len(batch)) for kind, batch in plan_batches(changes)] == [("route", 9)]


def test_deletes_of_a_kind_undo_its_order() -> None:
    routes = [Route(dst=f"10.{i}.0.0/16", dev="eth0") for i in range(3)]
    ((_, batch),) = plan_batches([Change(route, None) for route in routes])
    assert [change.before for change in batch] == routes[::-1]


@given(st.permutations([100, 200, 300, 400]))
def test_a_group_stands_between_its_members_comings_and_goings_in_whatever_order_they_are_named(ids: list[int]) -> None:
    """The kernel refuses a group that names what is not there yet (kernel: net/ipv4/nexthop.c)."""
    ways = {n: Nexthop(id=n, family="inet", dev=f"wg{n}") for n in (200, 300, 400)}
    group = Nexthop(id=100, group=tuple(Member(id=n) for n in ways))
    named = [ways.get(n, group) for n in ids]
    assert shape([create(one) for one in named])[-1] == ("nexthop", "create", 1)
    assert shape([Change(one, None) for one in named])[0] == ("nexthop", "delete", 1)


def test_a_delete_that_frees_a_port_goes_before_its_taker() -> None:
    old, new = wg("wg0", 5000)[1], wg("wg1", 5000)[1]
    assert shape([create(new), Change(old, None)]) == [("wireguard", "delete", "wg0"), ("wireguard", "create", "wg1")]


def test_a_chain_of_takers_is_ordered() -> None:
    devices = {name: wg(name, port)[1] for name, port in (("a", 1), ("b", 2), ("c", 3))}
    moved = {name: wg(name, port)[1] for name, port in (("a", 2), ("b", 3), ("c", 4))}
    assert [key for _, _, key in shape([Change(devices[n], moved[n]) for n in "abc"])] == ["c", "b", "a"]


def test_a_ring_of_takers_is_cut() -> None:
    a, b = wg("a", 1)[1], wg("b", 2)[1]
    swapped = [Change(a, wg("a", 2)[1]), Change(b, wg("b", 1)[1])]
    assert shape(swapped) == [("wireguard", "delete", "a"), ("wireguard", "change", "b"), ("wireguard", "create", "a")]


def test_swapped_ports_arrive() -> None:
    host = FakeHost()
    first = [*wg("a", 1), *wg("b", 2)]
    execute([create(r) for r in first], host.drivers())
    a, b = first[1], first[3]
    outcome = execute([Change(a, wg("a", 2)[1]), Change(b, wg("b", 1)[1])], host.drivers())
    assert not outcome.failures
    assert {key: one.resource.listen_port for key, one in host.stored["wireguard"].items()} == {("a",): 2, ("b",): 1}


def test_the_outcome_counts_what_was_done_and_keeps_what_was_refused() -> None:
    host = FakeHost()
    host.fail_next("route", errno.EPERM)
    routes = [create(Route(dst=f"10.{i}.0.0/16", dev="eth0")) for i in range(3)]
    outcome = execute(routes, host.drivers())
    assert outcome.done == {("route", "create"): 2}
    assert [failure.code for failure in outcome.failures] == ["EPERM"]


def test_batches_of_one_with_a_hook_between() -> None:
    host, seen = FakeHost(), []
    routes = [create(Route(dst=f"10.{i}.0.0/16", dev="eth0")) for i in range(3)]
    execute(routes, host.drivers(), batch=1, between=lambda kind: seen.append(host.operations) is None)
    assert seen == [0, 1, 2]
