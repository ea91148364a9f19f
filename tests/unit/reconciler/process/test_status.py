from __future__ import annotations

from collections.abc import Container
from typing import Any

import pytest

from reconciler.kinds.base import ALIAS, Observed, Session
from reconciler.loops.base import TunnelNote
from reconciler.process import status as module
from reconciler.process.status import Drift, ago, build, ok, render, size, tunnels
from reconciler.report.conditions import Condition
from reconciler.report.report import Report
from reconciler.state.store import Confirmed
from schema.plan import Change, Route
from tests.unit.reconciler.worlds import NOW, key, peer

ROUTE = Route(dst="10.10.0.0/16", dev="wg0")
ALIVE = TunnelNote(True, "", 0.02)
DEAD = TunnelNote(False, "no answer through it", 0.02)


def status(**fields: Any) -> dict[str, Any]:
    drift = Drift()
    drift.note([Change(None, ROUTE)], NOW - 7200)
    up = Observed(peer(), ALIAS, Session("198.51.100.1:5000", 12.0, 2048, 100))
    rows = tunnels({up.resource.key: up}.get, [(p.key, p) for p in (peer(), peer("wg0", 8))], {}, ())
    given: dict[str, Any] = {
        "host": "nas",
        "source": "example",
        "report": Report(confirmed=Confirmed("d", "4f2c1d9abc", NOW - 180)),
        "digest": "d",
        "commit": "4f2c1d9abc",
        "conditions": [Condition(t, "True", t) for t in ("Fetched", "Compiled", "Applied", "Confirmed")],
        "drift": drift,
        "peers": rows,
        "rows": {},
        "overlays": {},
        "now": NOW,
    }
    return build(**given | fields)


def test_what_people_see() -> None:
    assert render(status(), NOW) == (
        "nas   example@4f2c1d9  3 m ago   Fetched ✓  Compiled ✓  Applied ✓  Confirmed ✓\n"
        "      last cycle: unchanged, 0 operations in 0.00 s\n"
        "      tunnels 1/2\n"
        "        ✓ wg0              p9                    198.51.100.1:5000             "
        "handshake 12 s ago, 2.0 KiB in, 100 B out\n"
        "        ✗ wg0              p8                    -                             "
        "handshake never, 0 B in, 0 B out\n"
        "      drift: 1; last repaired 2 h ago: route 10.10.0.0/16 dev wg0 metric 117"
    )


def test_what_is_false_says_why() -> None:
    found = status(
        conditions=[Condition("Applied", "False", "Conflict", "theirs"), Condition("Contested", "True", "U", "x")]
    )
    assert "      Applied: Conflict: theirs\n      Contested: x" in render(found, NOW)
    assert not ok(found)


def test_all_true_is_ok() -> None:
    assert ok(status())


def test_nothing_confirmed() -> None:
    assert render(status(report=None, drift=Drift(), peers=[]), NOW).splitlines() == [
        "nas   nothing confirmed   Fetched ✓  Compiled ✓  Applied ✓  Confirmed ✓",
        "      drift: none",
    ]


def test_a_row_for_every_peer_of_the_plan_and_no_other() -> None:
    other = Observed(peer("wg0", 7), ALIAS, Session(None, 1.0))
    rows = tunnels({other.resource.key: other}.get, [(peer().key, peer())], {}, ())
    assert [(row["public_key"], row["up"]) for row in rows] == [(key(9), False)]


@pytest.mark.parametrize(
    ("notes", "idle", "up"),
    [
        ({}, (), True),
        ({}, {"wg0"}, False),  # new: nobody has looked at it
        ({"wg0": ALIVE}, {"wg0"}, False),  # it has just answered
        ({"wg0": ALIVE}, {"wg1"}, True),
        ({"wg0": DEAD}, (), False),  # it has just died
    ],
)
def test_a_tunnel_with_a_session_is_up_while_it_is_alive_and_has_its_traffic(
    notes: dict[str, TunnelNote], idle: Container[str], up: bool
) -> None:
    seen = Observed(peer(), ALIAS, Session("198.51.100.1:5000", 1.0))
    (row,) = tunnels({seen.resource.key: seen}.get, [(peer().key, peer())], notes, idle)
    assert row["up"] is up


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s ago"), (59, "59 s ago"), (60, "1 m ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_spans(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 << 40)] == ["0 B", "1023 B", "1.0 KiB", "5.0 TiB"]
    assert module.MARKS["Unknown"] == "?"
