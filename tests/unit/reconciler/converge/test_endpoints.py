from __future__ import annotations

from reconciler.converge.endpoints import Heard, LookupSchedule, decide
from reconciler.kinds.base import ALIAS, Observed, Session
from schema.plan import Change, Peer, Sysctl
from tests.unit.reconciler.worlds import peer

NAMED = peer(endpoint="home.example.org:5000")
PEERS = {NAMED.key: NAMED}


def seen(age: float | None, endpoint: str | None = "192.0.2.1:5000") -> list[Observed[Peer]]:
    there = NAMED.model_copy(update={"endpoint": endpoint})
    return [Observed(there, ALIAS, Session(endpoint, age))]


def test_a_live_session_is_left_alone() -> None:
    assert LookupSchedule().due(PEERS, seen(179.0), 0.0) == []


def test_a_silent_peer_is_looked_up_every_half_minute() -> None:
    resolver = LookupSchedule()
    due = [now for now in range(0, 100, 2) if resolver.due(PEERS, seen(200.0), float(now))]
    assert due == [0, 30, 60, 90]


def test_a_new_peer_has_three_minutes_for_its_first_handshake() -> None:
    resolver = LookupSchedule()
    due = [now for now in range(0, 240, 2) if resolver.due(PEERS, seen(None), float(now))]
    assert due == [180, 210]


def test_a_name_that_could_not_be_resolved_is_tried_at_once() -> None:
    resolver = LookupSchedule()
    assert [now for now in (0, 2, 30) if resolver.due(PEERS, seen(None, None), float(now))] == [0, 30]


def test_a_handshake_starts_over() -> None:
    resolver = LookupSchedule()
    resolver.due(PEERS, seen(200.0), 0.0)
    resolver.due(PEERS, seen(1.0), 10.0)
    assert resolver.due(PEERS, seen(181.0), 12.0)


def test_addresses_are_never_looked_up() -> None:
    numeric = peer()
    assert LookupSchedule().due({numeric.key: numeric}, [Observed(numeric, ALIAS, Session(None, None))], 500.0) == []


def test_what_the_answer_changes() -> None:
    (lookup,) = LookupSchedule().due(PEERS, seen(200.0), 0.0)
    assert decide(lookup, []) is None
    assert decide(lookup, ["2001:db8::1", "192.0.2.1"]) is None
    change = decide(lookup, ["2001:db8::1"])
    assert change and isinstance(change.after, Peer)
    assert change.after.endpoint == "[2001:db8::1]:5000"
    assert change.before == seen(200.0)[0].resource


def test_a_peer_that_is_made_again_is_spoken_to_where_it_was_heard() -> None:
    heard = Heard()
    nowhere = peer(endpoint=None)
    heard.note([Observed(peer(endpoint="192.0.2.9:7000"), ALIAS, Session("192.0.2.9:7000", 3.0))])
    heard.note([])
    (change,) = heard.recall([Change(None, nowhere)])
    assert change.after == peer(endpoint="192.0.2.9:7000")
    for untouched in (
        Change(None, NAMED),
        Change(nowhere, nowhere),
        Change(nowhere, None),
        Change(None, Sysctl(name="net/a", value="1")),
    ):
        assert heard.recall([untouched]) == [untouched]


def test_what_was_heard_of_peers_that_are_gone_is_forgotten_in_time() -> None:
    heard = Heard()
    for number in range(1000):
        heard.note([Observed(peer("wg0", number, endpoint="192.0.2.1:5000"), ALIAS)])
    first = Change(None, peer("wg0", 0, endpoint=None))
    assert heard.recall([first]) == [first]
