from __future__ import annotations

from reconciler.converge.mirror import Mirror
from reconciler.kinds import KINDS
from reconciler.kinds.base import ALIAS, Observed, Session
from schema.plan import PROTOCOL, Change, Peer, Route
from tests.unit.reconciler.worlds import peer

ROUTE = Route(dst="10.0.0.0/8", dev="eth0")


def seen(one: Peer, age: float | None = None) -> Observed[Peer]:
    return Observed(one, ALIAS, Session(one.endpoint, age))


def test_it_holds_what_was_read_until_the_next_look() -> None:
    mirror = Mirror(KINDS)
    assert not mirror.knows("route")
    mirror.take({"route": [Observed(ROUTE, PROTOCOL)]})
    assert mirror.knows("route") and [one.resource for one in mirror.kind("route")] == [ROUTE]
    mirror.take({"route": []})
    assert mirror.kind("route") == []


def test_a_look_at_one_device_leaves_what_is_known_of_the_others() -> None:
    mirror = Mirror(KINDS)
    mirror.take({"peer": [seen(peer("wg0", 8)), seen(peer("wg1", 9))]})
    mirror.take({"peer": []}, {"wg0"})
    assert mirror.on("peer", "wg0") == {} and list(mirror.on("peer", "wg1")) == [peer("wg1", 9).key]


def test_it_follows_what_the_kernel_has_acknowledged() -> None:
    mirror = Mirror(KINDS)
    old, new = peer("wg0", 9, "10.0.0.0/8"), peer("wg0", 9)
    mirror.take({"peer": [seen(old, 5.0)], "route": []})
    mirror.acknowledge([Change(old, new), Change(None, ROUTE), Change(None, peer("wg0", 8))])
    found = mirror.get("peer", new.key)
    assert found is not None and (found.resource, found.marker) == (new, ALIAS)
    assert found.session is not None and found.session.handshake_age == 5.0, "the session goes on"
    assert mirror.get("route", ROUTE.key) == Observed(ROUTE, PROTOCOL)
    mirror.acknowledge([Change(new, None)])
    assert mirror.get("peer", new.key) is None


def test_what_is_in_doubt_is_still_shown_and_not_relied_on() -> None:
    mirror = Mirror(KINDS)
    mirror.take({"route": [Observed(ROUTE, PROTOCOL)]})
    mirror.doubt({"route"})
    assert not mirror.knows("route") and mirror.kind("route")
    mirror.take({"route": []})
    assert mirror.knows("route")


def test_ours_is_the_one_that_counts_where_two_have_a_key() -> None:
    mirror = Mirror(KINDS)
    theirs = ROUTE.model_copy(update={"dev": "eth1"})
    for two in ([Observed(ROUTE, PROTOCOL), Observed(theirs, 4)], [Observed(theirs, 4), Observed(ROUTE, PROTOCOL)]):
        mirror.take({"route": two})
        assert mirror.get("route", ROUTE.key) == Observed(ROUTE, PROTOCOL)
