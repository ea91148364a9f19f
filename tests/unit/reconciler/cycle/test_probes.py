from __future__ import annotations

import pytest

from reconciler.converge.layers import Composed
from reconciler.converge.wanted import Wanted
from reconciler.cycle.probes import (
    Check,
    LiveTunnel,
    addresses_behind,
    complaint,
    counters,
    declared,
    family_kept,
    gateways,
    heard,
    host_of,
    tunnels,
    waits,
)
from reconciler.kinds import KINDS
from reconciler.kinds.base import Observed, Session
from schema.plan import Exit, HostPlan, Peer, ProbeTarget, Resource, Route, Runtime
from tests.unit.reconciler.loops.exits.samples import an_exit
from tests.unit.reconciler.worlds import key, peer, wg


def live(*peers: Peer, age: float | None = 5.0, rx: int = 0) -> list[Observed[Peer]]:
    return [Observed(one, session=Session(one.endpoint, age, rx)) for one in peers]


def plan(*resources: Resource, runtime: Runtime | None = None) -> Composed:
    return Wanted(KINDS).compose(HostPlan.of("h1", resources, runtime), "")


OLD = peer("wg0", 9, "10.20.0.0/16")
BEFORE = plan(*wg(), OLD)


def test_a_steady_peer_has_to_answer() -> None:
    after = plan(*wg(), peer("wg0", 9, "10.20.0.0/16", "10.21.0.0/16"))
    steady, roaming, both = tunnels(BEFORE, after, live(OLD))
    assert ([t.key for t in steady], roaming, both) == ([OLD.key], {}, [])


@pytest.mark.parametrize("age", [None, 180.0, 1000.0])
def test_a_peer_without_a_session_is_no_criterion(age: float | None) -> None:
    assert tunnels(BEFORE, BEFORE, live(OLD, age=age)) == ([], {}, [])


def test_a_peer_that_goes_or_comes_is_no_criterion() -> None:
    assert tunnels(BEFORE, plan(*wg()), live(OLD)) == ([], {}, [])
    assert tunnels(plan(*wg()), BEFORE, []) == ([], {}, [])


@pytest.mark.parametrize(
    "after",
    [
        [*wg(), OLD.model_copy(update={"endpoint": "198.51.100.1:6000"})],
        [*wg(port=6000), OLD],
        [*wg(number=2), OLD],
        [*wg(), OLD.model_copy(update={"public_key": key(8)})],
    ],
    ids=["its port", "our port", "our key", "its key"],
)
def test_what_a_handshake_needs_at_both_ends_makes_a_peer_two_ended(after: list[Resource]) -> None:
    steady, _, both = tunnels(BEFORE, plan(*after), live(OLD))
    assert (steady, [t.key[0] for t in both]) == ([], ["wg0"])


def test_of_roaming_peers_only_a_crowd_counts() -> None:
    crowd = [peer("wg0", n, f"10.51.0.{n}/32", endpoint=None) for n in (5, 6, 7)]
    everybody = plan(*wg(), *crowd)
    assert tunnels(everybody, everybody, live(*crowd))[1].keys() == {"wg0"}
    assert tunnels(everybody, everybody, live(*crowd[:2]))[1] == {}


@pytest.mark.parametrize(
    ("after", "counts"),
    [((an_exit(),), True), ((an_exit(prefer=("uk",)),), False), (None, False)],
    ids=["stays", "changes", "goes"],
)
def test_the_tunnel_of_an_exit_counts_while_the_plan_leaves_the_exit_alone(
    after: tuple[Exit, ...] | None, counts: bool
) -> None:
    tunnel = peer("wg-pia-1", 9, "0.0.0.0/0")
    held = [*wg("wg-pia-1"), tunnel]
    before, target = (plan(*held, runtime=Runtime(exits=exits)) for exits in ((an_exit(),), after))
    assert [t.key for t in tunnels(before, target, live(tunnel))[0]] == ([tunnel.key] if counts else [])


def test_who_takes_an_exit_here_may_go_to_another_gateway() -> None:
    crowd = [peer("wg-exits", n, f"10.52.0.{n}/32", endpoint=None) for n in (5, 6, 7)]
    for after in (crowd, [*crowd, *wg("wg-exits", port=6000)]):
        assert tunnels(plan(*crowd, *wg("wg-exits")), plan(*after), live(*crowd)) == ([], {}, [])


def test_tunnels_to_one_host_share_its_answers() -> None:
    other = peer("wg1", 9)
    both = plan(*wg(), *wg("wg1", 5001), OLD, other)
    assert [t.shared for t in tunnels(both, both, live(OLD, other))[0]] == [True, True]
    assert [t.shared for t in tunnels(BEFORE, BEFORE, live(OLD))[0]] == [False]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (("10.0.0.0/8", "10.255.0.2/32"), ("10.255.0.2",)),
        (("10.255.0.0/16",), ("10.255.255.254",)),
        (("10.255.0.2/31",), ("10.255.0.3",)),
        (("10.255.0.2/32", "fd00::2/128"), ("10.255.0.2", "fd00::2")),
        ((), ()),
    ],
)
def test_where_to_speak_to_a_peer(allowed: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert addresses_behind(peer("wg0", 9, *allowed)) == expected


def test_the_default_gateway_is_that_of_the_best_route() -> None:
    routes = [
        Route(dst="0.0.0.0/0", via="192.0.2.9", dev="eth1", metric=200),
        Route(dst="0.0.0.0/0", via="192.0.2.1", dev="eth0", metric=100),
        Route(dst="0.0.0.0/0", via="192.0.2.7", dev="eth0", metric=1, table=100),
        Route(dst="10.0.0.0/8", via="192.0.2.8", dev="eth0", metric=1),
        Route(dst="::/0", via="fe80::1", dev="eth0"),
    ]
    found = gateways(Observed(route, 4) for route in routes)
    assert found == [Check("gateway", "192.0.2.1", "eth0"), Check("gateway", "fe80::1", "eth0")]
    moved = Check("gateway", "198.51.100.1", "eth1")
    assert family_kept(found[0], [found[1], moved]) == moved
    assert family_kept(found[0], [found[1]]) is None


def test_what_the_repository_asks_for() -> None:
    probes = (
        ProbeTarget(kind="dns", target="example.org", server="10.0.0.53"),
        ProbeTarget(kind="ping", target="10.1.0.1"),
    )
    assert [check.text for check in declared(Runtime(probes=probes))] == [
        "dns example.org at 10.0.0.53",
        "ping 10.1.0.1",
    ]
    assert declared(Runtime()) == []


@pytest.mark.parametrize(
    ("check", "host"),
    [
        (Check("ping", "10.20.0.1"), "10.20.0.1"),
        (Check("tcp", "10.20.0.1:443"), "10.20.0.1"),
        (Check("tcp", "[fd00::1]:443"), "fd00::1"),
        (Check("http", "http://10.20.0.1/health"), "10.20.0.1"),
        (Check("http", "https://[fd00::1]:8443/health"), "fd00::1"),
        (Check("http", "http://example.org:80"), "example.org"),
    ],
)
def test_the_host_of_a_check(check: Check, host: str) -> None:
    assert host_of(check) == host


def test_what_lies_behind_a_two_ended_peer_waits_with_it() -> None:
    later = [LiveTunnel(OLD.key, "p9", ())]
    assert waits(Check("ping", "10.20.0.1"), later, BEFORE)
    assert waits(Check("dns", "example.org", "10.20.0.53"), later, BEFORE)
    assert not waits(Check("ping", "10.30.0.1"), later, BEFORE)
    assert not waits(Check("tcp", "example.org:443"), later, BEFORE)
    assert not waits(Check("ping", "10.20.0.1"), [], BEFORE)


def test_who_was_heard_since() -> None:
    since = counters(live(OLD, rx=100))
    assert heard(since, live(OLD, rx=100)) == set()
    assert heard(since, live(OLD, rx=132)) == {OLD.key}
    assert heard({}, live(OLD, rx=1)) == {OLD.key}


def test_a_complaint_names_the_first_and_counts_the_rest() -> None:
    failed = [Check("git"), LiveTunnel(OLD.key, "p9", ())]
    assert complaint(failed) == (
        "the git server (and 1 more) answered before the change and does not any more, tried 3 times"
    )


def test_of_a_crowd_sixteen_are_spoken_to() -> None:
    crowd = [peer("wg0", n, f"10.51.0.{n}/32", endpoint=None) for n in range(10, 40)]
    everybody = plan(*wg(), *crowd)
    assert len(tunnels(everybody, everybody, live(*crowd))[1]["wg0"]) == 16


@pytest.mark.parametrize("before", [True, False])
def test_a_peer_whose_device_is_only_in_one_plan_is_two_ended(before: bool) -> None:
    """What the device was, or will be, is not known: no answer of its peer is owed."""
    bare, whole = plan(OLD), plan(*wg(), OLD)
    steady, _, both = tunnels(bare if before else whole, whole if before else bare, live(OLD))
    assert (steady, [t.key for t in both]) == ([], [OLD.key])
