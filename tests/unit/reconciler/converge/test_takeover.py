"""Traffic follows the sessions of a new key's tunnels, at each end by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reconciler.cycle.engine import Engine
from reconciler.kinds.base import Session
from reconciler.report.report import Acquired, Candidate
from schema.plan import HostPlan, Resource, Route, Runtime, Takeover
from tests.fakes import FakeHost
from tests.unit.reconciler.worlds import engine_on, key, peer, site, wg

OLD, NEW = Route(dst="10.20.0.0/16", dev="wg0"), Route(dst="10.20.0.0/16", dev="wg0b")
PLAIN = HostPlan.of("h1", site())
ROTATING = HostPlan.of(
    "h1",
    [*site(), *wg("wg0b", 5001), peer("wg0b", 10, "10.20.0.0/16")],
    Runtime(takeovers=(Takeover(dev="wg0b", public_key=key(10), resources=(NEW,)),)),
)


def routes(engine: Engine) -> set[Resource]:
    return {one.resource for one in engine.converger.drivers["route"].observe()}


def apply(engine: Engine, commit: str, plan: HostPlan) -> None:
    report = engine.converge(Acquired(commit=commit, candidate=Candidate.of(commit, plan)))
    assert report.error is None and report.confirmed is not None and report.confirmed.commit == commit


def session(host: FakeHost, age: float) -> None:
    """The far end has the tunnel too."""
    seen = host.stored["peer"]["wg0b", key(10)]
    host.stored["peer"]["wg0b", key(10)] = replace(seen, session=Session("198.51.100.1:5000", age))


def test_it_moves_with_the_first_handshake_and_back_when_the_session_is_lost(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", ROTATING)
    assert routes(engine) == {OLD} and engine.apply_owed() is None
    session(host, 1.0)
    engine.converge(kinds={"peer"}, cascade=False)
    report = engine.apply_owed()
    assert report is not None and report.error is None and report.mode == "move" and not report.repaired
    assert routes(engine) == {NEW}
    assert engine.converge().operations == 0 and engine.apply_owed() is None
    session(host, 200.0)
    engine.converge(kinds={"peer"}, cascade=False)
    assert engine.apply_owed() is not None and routes(engine) == {OLD}


def test_an_agent_that_starts_again_leaves_what_has_moved(tmp_path: Path) -> None:
    host = FakeHost()
    apply(engine_on(host, tmp_path), "c1", ROTATING)
    session(host, 1.0)
    engine = engine_on(host, tmp_path)
    assert engine.restore().operations == 1 and routes(engine) == {NEW}
    assert engine_on(host, tmp_path).restore().operations == 0


def test_a_rotation_that_is_given_up_goes_back_before_its_tunnels_go(tmp_path: Path) -> None:
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", ROTATING)
    session(host, 1.0)
    engine.converge(kinds={"peer"}, cascade=False)
    engine.apply_owed()
    apply(engine, "c2", PLAIN)
    assert routes(engine) == {OLD}
