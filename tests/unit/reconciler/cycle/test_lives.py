"""What live sessions, lost state and refusals ask of a change and of the way back: scripts on a host in memory."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reconciler.cycle.engine import Engine
from reconciler.report.report import Acquired, Candidate, Report
from schema.plan import Peer, Resource, Route, Runtime
from tests.fakes import FakeHost, Killed
from tests.unit.reconciler.converge.test_groups import group, watch
from tests.unit.reconciler.converge.test_groups import plan as plan_of
from tests.unit.reconciler.worlds import apply, candidate, engine_on, key, peer, site, wg

HERE, THERE, ROAMED = "198.51.100.1:5000", "198.51.100.2:5000", "192.0.2.7:4000"
PLACE = ("wg0", key(9))


def moved(*more: Resource) -> list[Resource]:
    """The same network with the peer somewhere else."""
    return [*(peer("wg0", 9, "10.20.0.0/16", endpoint=THERE) if isinstance(r, Peer) else r for r in site()), *more]


def live(tmp_path: Path, endpoint: str | None = None) -> tuple[FakeHost, Engine]:
    """A host whose peer has a session, perhaps from where it has roamed to."""
    host = FakeHost()
    engine = engine_on(host, tmp_path)
    apply(engine, "c1", site())
    host.handshake(*PLACE, age=5.0, endpoint=endpoint)
    engine.converge(kinds={"peer"})
    return host, engine


def endpoint_on(host: FakeHost) -> str | None:
    found = host.stored["peer"][PLACE].resource
    assert isinstance(found, Peer)
    return found.endpoint


@pytest.mark.parametrize("from_where", [None, ROAMED])
def test_a_new_endpoint_is_set_while_the_old_session_lives(tmp_path: Path, from_where: str | None) -> None:
    host, engine = live(tmp_path, from_where)
    assert apply(engine, "c2", moved()).result == "changed"
    assert endpoint_on(host) == THERE


def test_an_endpoint_that_was_refused_once_is_set_again(tmp_path: Path) -> None:
    host, engine = live(tmp_path)
    host.fail_next("peer", errno.EBUSY)
    assert apply(engine, "c2", moved()).result == "changed"
    assert endpoint_on(host) == THERE


@pytest.mark.parametrize("from_where", [None, ROAMED])
def test_a_rolled_back_endpoint_is_the_old_one_although_a_session_lives(tmp_path: Path, from_where: str | None) -> None:
    host, engine = live(tmp_path, from_where)
    host.fail_next("route", errno.EINVAL, 3)
    assert apply(engine, "c2", moved(Route(dst="10.30.0.0/16", dev="wg0"))).result == "rolled back"
    assert endpoint_on(host) == HERE
    assert engine.converge().operations == 0


@pytest.mark.parametrize("operations", range(1, 4))
def test_a_restored_endpoint_is_the_old_one_although_a_session_lives(tmp_path: Path, operations: int) -> None:
    host, engine = live(tmp_path)
    host.die_after(operations)
    with pytest.raises(Killed):
        apply(engine, "c2", moved(*(Route(dst=f"10.3{n}.0.0/16", dev="wg0") for n in range(4))))
    host.die_after(None)
    assert engine_on(host, tmp_path).restore().rolled_back
    assert endpoint_on(host) == HERE


def lost(tmp_path: Path) -> tuple[FakeHost, Engine]:
    """A host that has lost its confirmed plan, and not its tunnels."""
    host, _ = live(tmp_path)
    for path in (tmp_path / "plans").iterdir():
        path.write_bytes(b"{")
    again = engine_on(host, tmp_path)
    assert again.restore().state_error
    return host, again


def test_where_the_old_plan_is_lost_a_refused_one_takes_nothing_away(tmp_path: Path) -> None:
    host, engine = lost(tmp_path)
    before = {kind: set(of_kind) for kind, of_kind in host.stored.items()}
    host.fail_next("route", errno.EINVAL, 3)
    report = apply(engine, "c2", [*site(), Route(dst="10.30.0.0/16", dev="wg0")])
    assert report.error and report.error.reason == "Refused" and not report.rolled_back
    assert all(there <= set(host.stored[kind]) for kind, there in before.items())
    assert engine.store.commits.rejected()["c2"].reason == "Refused"


def test_where_the_old_plan_is_lost_and_a_change_is_cut_off_nothing_is_taken_away(tmp_path: Path) -> None:
    host, engine = lost(tmp_path)
    host.die_after(1)
    with pytest.raises(Killed):
        apply(engine, "c2", [*site(), *wg("wg1", 5001)])
    host.die_after(None)
    before = host.snapshot()
    report = engine_on(host, tmp_path).restore()
    assert report.state_error and report.state_error.reason in ("StateLost", "PlanLost")
    assert host.snapshot() == before


def test_going_back_that_fails_too_says_both(tmp_path: Path) -> None:
    host, engine = live(tmp_path)
    looks: list[str] = []

    def break_the_way_back(stage: str) -> None:
        looks.extend([stage] if stage == "observe" else [])
        if len(looks) == 2:
            raise OSError(errno.EIO, "Input/output error")

    engine.converger.on_stage = break_the_way_back
    host.fail_next("route", errno.EINVAL, 3)
    report = apply(engine, "c2", [*site(), *routes("wg0", "10.30.0.0/16")])
    assert report.error and not report.rolled_back
    assert "10.30.0.0/16" in report.error.message and "; going back failed too: " in report.error.message
    assert engine.store.journal() is not None, "so that the next start goes back"
    assert engine_on(host, tmp_path).restore().rolled_back
    assert {one.resource for one in host.observe("route")} == {one for one in site() if isinstance(one, Route)}


def routes(dev: str, *prefixes: str) -> list[Resource]:
    return [Route(dst=prefix, dev=dev) for prefix in prefixes]


def test_what_somebody_else_puts_there_in_mid_change_is_a_conflict_and_not_taken(tmp_path: Path) -> None:
    host, engine = live(tmp_path)
    theirs = Route(dst="10.30.0.0/16", dev="eth0")
    engine.converger.on_stage = lambda stage: host.add(theirs, 4) if stage == "execute" else None
    report = apply(engine, "c2", [*site(), *routes("wg0", "10.30.0.0/16")])
    assert report.result == "rolled back" and report.error
    assert host.stored["route"][theirs.key].resource == theirs and host.stored["route"][theirs.key].marker == 4
    assert report.error.reason == "Conflict"


def adopted(engine: Engine, resources: list[Resource]) -> Report:
    return engine.converge(Acquired(commit="c2", candidate=candidate("c2", resources)), adopt=True)


def test_adopting_goes_only_forward(tmp_path: Path) -> None:
    """A way back would delete what was adopted: so it is confirmed before it is begun, and there is no journal."""
    host, engine = live(tmp_path)
    theirs = Route(dst="10.30.0.0/16", dev="eth0")
    host.add(theirs, 4)
    host.fail_next("route", errno.EINVAL, 50)
    report = adopted(engine, [*site(), *routes("wg0", "10.30.0.0/16", "10.31.0.0/16")])
    assert report.error and not report.rolled_back
    confirmed = engine.store.confirmed()
    assert confirmed and confirmed.commit == "c2" and engine.store.journal() is None
    assert theirs.key in host.stored["route"]
    host.heal()
    assert engine.converge(adopt=True).error is None
    assert host.stored["route"][theirs.key].resource.dev == "wg0"


def test_removal_forgets_what_loops_have_wanted(tmp_path: Path) -> None:
    host, engine = live(tmp_path)
    engine.wanted.change("exits", routes("wg0", "10.99.0.0/16"))
    engine.apply_owed()
    assert engine.remove().ok and not host.stored["route"]
    assert engine.apply_owed() is None and engine.converge().operations == 0
    assert not host.stored["route"] and not host.stored["link"]
    apply(engine, "c3", site())
    assert [route.resource.dst for route in host.stored["route"].values()] == ["10.20.0.0/16"]


def test_a_change_of_nobodys_commit_that_was_cut_off_is_nobodys_fault(tmp_path: Path) -> None:
    """The journal of a restore, or of one that has lost its name, rejects no commit."""
    from reconciler.state.journal import Journal

    _, engine = live(tmp_path)
    confirmed = engine.store.confirmed()
    assert confirmed
    for _ in range(3):
        engine.store.begin(Journal(confirmed.digest, "d2", "", "boot", 1))
        again = engine_on(FakeHost(), tmp_path)
        assert again.restore("the deadline passed").error is None
        assert again.store.commits.rejected() == {}


def test_a_link_that_comes_again_some_day_is_looked_at_anew(tmp_path: Path) -> None:
    """What its tunnels carry by then is what the kernel holds, and not what was known of them once."""
    engine = engine_on(FakeHost(), tmp_path)

    def apply_plan(commit: str, runtime: Runtime) -> None:
        whole = plan_of(group(1, 2), runtime)
        found = Candidate(commit, whole, whole.digest, whole.canonical())
        assert engine.converge(Acquired(commit=commit, candidate=found)).error is None

    watched = Runtime(watches=(watch("wg1", "wg2"),))
    apply_plan("c1", watched)
    engine.wanted.update_alive(("wg1", "wg2"), frozenset())
    engine.apply_owed()
    apply_plan("c2", Runtime())
    assert engine.wanted.alive == frozenset()
    apply_plan("c3", watched)
    assert engine.wanted.alive == {"wg1", "wg2"} and engine.idle == frozenset()


@pytest.mark.parametrize("place", [("a-boot", 1), ("", 0)], ids=["a boot with an id", "a boot without one"])
def test_a_journal_of_a_change_from_what_was_lost_leads_back_to_nothing_that_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[str, int]
) -> None:
    """Not even where somebody has tidied up what could not be read: an empty host would be the guess."""
    monkeypatch.setattr("reconciler.cycle.stages.here", lambda: place)
    host, engine = lost(tmp_path)
    host.die_after(1)
    with pytest.raises(Killed):
        apply(engine, "c2", [*site(), *wg("wg1", 5001)])
    host.die_after(None)
    for path in tmp_path.glob("confirmed*"):
        path.unlink()
    before = host.snapshot()
    report = engine_on(host, tmp_path).restore()
    assert report.state_error and report.state_error.reason == "StateLost"
    assert host.snapshot() == before
