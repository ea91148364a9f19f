from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reconciler.base.errors import Transient
from reconciler.converge.layers import NOTHING
from reconciler.cycle.probes import LiveTunnel
from reconciler.cycle.stages import Cycle, Trial
from reconciler.loops import LOOPS
from reconciler.loops.base import Plug
from reconciler.process.metrics import Metrics
from reconciler.process.reconciler import Reconciler
from reconciler.process.status import render
from reconciler.report.report import Acquired, Report
from reconciler.sources.acquire import Acquirer
from reconciler.state.journal import Journal
from reconciler.state.suspension import Suspension
from tests.fakes import FakeHost
from tests.unit.reconciler.sources.test_acquire import Scripted
from tests.unit.reconciler.worlds import NOW, candidate, engine_on, site


class World:
    """A host on a fake kernel with a scripted source, and what it said."""

    def __init__(self, folder: Path, plugs: Sequence[Plug] = LOOPS) -> None:
        self.plugs = plugs
        self.kernel = FakeHost()
        self.source = Scripted()
        self.said: list[str] = []
        self.folder = folder
        self.covered: Callable[[frozenset[str]], None] = lambda kinds: None
        self.start()

    def start(self) -> None:
        engine = engine_on(self.kernel, self.folder, covered=lambda kinds: self.covered(kinds))
        acquirer = Acquirer(host="h1", store=engine.store, source=self.source)
        self.host = Reconciler(
            name="h1",
            store=engine.store,
            engine=engine,
            acquirer=acquirer,
            clock=lambda: NOW,
            say=lambda level, text: self.said.append(f"{level} {text}"),
            plugs=self.plugs,
            metrics=Metrics(self.plugs),
        )
        self.host.recall()

    def apply(self, commit: str) -> None:
        self.host.converge(Acquired(commit=commit, candidate=candidate(commit, site())))

    def conditions(self) -> dict[str, str]:
        return {c.type: f"{c.status}:{c.reason}" for c in self.host.reporter.conditions.all()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_good_cycle_makes_every_condition_true(world: World) -> None:
    world.apply("c1")
    assert set(world.conditions().values()) == {"True:Fetched", "True:Compiled", "True:Applied", "True:Confirmed"}
    (said,) = world.said
    assert said.startswith(
        "info apply c1: 5 operations: 1 address create, 1 link create, 1 peer create, 1 route create, "
        "1 wireguard create in "
    )


def test_once_looks_once_where_nothing_is_new(world: World, tmp_path: Path) -> None:
    world.apply("c1")
    world.start()
    looked: list[frozenset[str]] = []
    world.covered = looked.append
    report = world.host.once()
    assert (report.operations, len(looked)) == (0, 1)
    assert report.ok
    assert set(world.conditions()) == {"Fetched", "Compiled", "Applied", "Confirmed"}


def test_once_on_a_new_host(world: World) -> None:
    assert world.host.once().result == "unchanged"  # the scripted plan is empty
    assert world.conditions()["Confirmed"] == "True:Confirmed"


def test_a_failed_fetch_is_noted_and_the_plan_looked_after(world: World) -> None:
    world.apply("c1")
    world.source.error = Transient("Fetched", "Timeout", "no answer")
    world.start()
    report = world.host.once()
    assert not report.ok
    assert world.conditions()["Fetched"] == "False:Timeout"
    assert world.conditions()["Applied"] == "True:Applied"


def test_a_commit_that_does_not_compile_keeps_confirmed_false_through_repairs(world: World) -> None:
    world.apply("c1")
    got = Acquired(commit="c2", compile_error=Transient("Compiled", "Problems", "a.yaml"))
    world.host.record(got)
    world.host.converge(kinds={"peer"})
    assert world.conditions()["Compiled"] == "False:Problems"
    assert world.conditions()["Confirmed"] == "False:OlderCommit"


def test_drift_is_counted_and_said(world: World) -> None:
    world.apply("c1")
    world.kernel.remove(site()[4])
    world.host.converge(kinds={"route"})
    assert world.host.reporter.drift.by_kind == {"route": 1}
    assert world.said[-1].startswith("warning repaired route 10.20.0.0/16 dev wg0 metric 117 (1 operation: ")


def test_a_repair_that_fails_is_not_counted(world: World) -> None:
    world.apply("c1")
    world.kernel.remove(site()[4])
    world.kernel.fail_next("route", errno.ENETUNREACH, 3)
    assert world.host.converge().error
    assert world.host.reporter.drift.by_kind == {}
    assert world.conditions()["Applied"] == "False:Refused"
    world.host.converge()
    assert world.conditions()["Applied"] == "True:Applied"


def test_something_that_keeps_undoing_our_work_is_named_once(world: World) -> None:
    world.apply("c1")
    for _ in range(8):
        world.kernel.remove(site()[4])
        world.host.converge(kinds={"route"})
    contested = world.host.reporter.conditions.get("Contested")
    assert contested and "10.20.0.0/16" in contested.message and "networkd" in contested.message
    assert sum("Contested" in text for text in world.said) == 1
    assert world.host.reporter.contest.delay(NOW) == {"route": 4.0}


def test_status_is_written_on_every_exit(world: World) -> None:
    world.apply("c1")
    written = world.host.store.status()
    assert written and written["commit"] == "c1"
    world.kernel.fail_next("route", errno.EINVAL, 3)
    world.kernel.remove(site()[4])
    world.host.converge()
    written = world.host.store.status()
    assert written and written["cycle"]["result"] == "failed"


def test_a_status_that_cannot_be_written_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(status: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(world.host.store, "write_status", full)
    world.apply("c1")
    world.host.converge()
    assert sum("cannot write the status" in text for text in world.said) == 1


def test_a_rejected_commit_is_in_status_log_and_metrics(world: World) -> None:
    from prometheus_client import generate_latest

    assert world.host.reporter.metrics is not None
    world.kernel.fail_next("route", errno.EINVAL, 3)
    world.apply("c1")
    (rejected,) = world.host.reporter.status()["rejected"]
    assert (rejected["commit"], rejected["reason"]) == ("c1", "Refused")
    assert f"rejected c1 0 s ago: Refused: {rejected['message']}" in render(world.host.reporter.status(), NOW)
    assert any("Applied=False Refused" in text and "rolled back" in text for text in world.said)
    assert "gitwan_rejected_commits 1.0" in generate_latest(world.host.reporter.metrics.registry).decode()


def test_a_plan_on_trial_says_what_it_waits_for(world: World) -> None:
    world.apply("c1")
    engine = world.host.engine
    tunnel = LiveTunnel(("wg0", "K"), "far", ())
    engine.trial = Trial(Cycle(Report(), NOTHING, NOTHING, frozenset()), candidate("c2", site()), [tunnel], 0.0)
    engine.newest = "c2"
    world.host.record(Acquired(commit="c2"))
    assert world.conditions()["Confirmed"] == "False:OnTrial"
    assert "c2 is applied, and waits for the peer far on wg0" in render(world.host.reporter.status(), NOW)


def test_metrics(world: World) -> None:
    from prometheus_client import generate_latest

    assert world.host.reporter.metrics is not None
    world.apply("c1")
    world.kernel.remove(site()[4])
    world.host.converge(kinds={"route"})
    text = generate_latest(world.host.reporter.metrics.registry).decode()
    for line in (
        'gitwan_cycles_total{result="changed"} 1.0',
        'gitwan_cycles_total{result="repaired"} 1.0',
        'gitwan_operations_total{kind="route",verb="create"} 2.0',
        'gitwan_drift_repaired_total{kind="route"} 1.0',
        'gitwan_condition{status="True",type="Confirmed"} 1.0',
        'gitwan_condition{status="False",type="Confirmed"} 0.0',
        'commit="c1"',
    ):
        assert line in text


# Suspended


def suspend(world: World, until: float = NOW + 7200.0) -> None:
    world.host.store.suspensions.suspend(Suspension(until, "replacing the switch"))


def test_a_suspended_host_shows_drift_and_does_not_repair_it(world: World) -> None:
    world.apply("c1")
    suspend(world)
    key, _ = world.kernel.stored["route"].popitem()
    report = world.host.converge(kinds={"route"})
    assert report.operations == 0 and key not in world.kernel.stored["route"]
    assert [change.resource.key for change in report.held["route"]] == [key]
    found = world.host.reporter.conditions.get("Suspended")
    assert found is not None and "replacing the switch; 1 change found and not made" in found.message
    status = world.host.reporter.status()
    assert world.host.store.status() == status, "at once, for whoever reads the file"
    [line] = status["drift"]["held"]
    assert line.startswith("+ route")
    text = render(status, NOW)
    assert "Suspended: until" in text and f"drift that is not repaired:\n       {line}" in text


def test_a_suspended_host_writes_its_status_where_something_changes_only(world: World) -> None:
    world.apply("c1")
    suspend(world)
    world.kernel.stored["route"].popitem()
    world.host.converge(kinds={"route"})
    (world.host.store.folder / "status.json").unlink()
    world.host.converge(kinds={"route"})
    assert world.host.store.status() is None, "nothing that was not there before"


def test_what_drifted_before_is_not_forgotten_while_a_host_is_suspended(world: World) -> None:
    world.apply("c1")
    suspend(world)
    for kind in ("route", "address"):
        world.kernel.stored[kind].popitem()
        world.host.converge(kinds={kind}, cascade=False)
    assert [line.split()[1] for line in world.host.reporter.status()["drift"]["held"]] == ["address", "route"]
    world.host.converge()
    assert len(world.host.reporter.status()["drift"]["held"]) == 2
    world.host.store.suspensions.resume()
    world.host.converge()
    assert world.host.reporter.status()["drift"]["held"] == []


def test_a_suspended_host_applies_no_new_commit_and_goes_on_when_it_is_over(world: World) -> None:
    world.apply("c1")
    suspend(world)
    world.apply("c2")
    assert world.host.store.confirmed() is not None and world.host.store.confirmed().commit == "c1"  # type: ignore[union-attr]
    assert not world.host.resumed()
    world.host.store.suspensions.resume()
    assert world.host.resumed()
    world.apply("c2")
    assert world.host.store.confirmed().commit == "c2"  # type: ignore[union-attr]
    assert world.host.reporter.conditions.get("Suspended") is None


def test_a_suspension_ends_by_itself(world: World) -> None:
    world.apply("c1")
    suspend(world, until=NOW - 1.0)
    world.kernel.stored["route"].popitem()
    assert world.host.converge().operations == 1


def test_a_suspended_host_restores_nothing_at_its_start_but_an_interrupted_change(world: World) -> None:
    world.apply("c1")
    suspend(world)
    world.kernel.stored["route"].clear()
    world.start()
    assert world.host.restore().operations == 0
    digest = world.host.store.confirmed().digest  # type: ignore[union-attr]
    world.host.store.begin(Journal(digest, "other", "c2", "boot", 1))
    world.start()
    assert world.host.restore().operations == 1
