from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.cycle.engine import Engine
from reconciler.cycle.probes import Check, LiveTunnel
from reconciler.kinds.base import Session
from reconciler.report.report import Acquired, Report
from reconciler.state.journal import Journal
from schema.plan import HostPlan, Peer, ProbeTarget, Resource, Route, Runtime
from tests.fakes import FakeHost
from tests.unit.reconciler.converge.test_groups import DEVS, ROUTE, group, watch
from tests.unit.reconciler.converge.test_groups import plan as ways_of
from tests.unit.reconciler.worlds import candidate, engine_on, key, peer, wg

PING = Check("ping", "10.9.0.1")
RUNTIME = Runtime(deadline=10.0, probes=(ProbeTarget(kind="ping", target="10.9.0.1"),))


@dataclass
class World:
    """A prober that a test scripts, on a host in memory; time passes only where somebody waits."""

    host: FakeHost
    now: float = 100.0
    silent: set[Check] = field(default_factory=set)
    deaf: set[Any] = field(default_factory=set)
    """Keys of peers that do not answer."""
    asked: int = 0
    git_address: str = "192.0.2.200"
    spoken: list[str] = field(default_factory=list)
    """What was said to the parent."""
    on_ask: Callable[[], None] = lambda: None

    def answered(self, checks: Sequence[Check], seconds: float) -> set[Check]:
        self.asked += 1
        self.on_ask()
        return {check for check in checks if check not in self.silent}

    def git(self) -> Check:
        return Check("git", self.git_address)

    def provoke(self, tunnels: Iterable[LiveTunnel]) -> None:
        stored = self.host.stored["peer"]
        for place in [t.key for t in tunnels if t.key in stored and t.key not in self.deaf]:
            session = stored[place].session or Session(None, None)
            stored[place] = replace(stored[place], session=replace(session, rx_bytes=session.rx_bytes + 32))

    def ticks(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # The parent

    def arm(self, seconds: float) -> None:
        self.spoken.append(f"arm {seconds:g}")

    def disarm(self) -> None:
        self.spoken.append("disarm")


@dataclass
class Scene:
    world: World
    engine: Engine

    def apply(self, commit: str, resources: list[Resource], runtime: Runtime = RUNTIME) -> Report:
        plan = HostPlan.of("h1", resources, runtime)
        found = replace(candidate(commit, resources), plan=plan, digest=plan.digest, data=plan.canonical())
        return self.engine.converge(Acquired(commit=commit, candidate=found))

    def live(self, *peers: Peer) -> None:
        for one in peers:
            self.world.host.handshake(one.dev, one.public_key, age=5.0)

    @property
    def rejected(self) -> dict[str, str]:
        return {commit: one.message for commit, one in self.engine.store.commits.rejected().items()}

    @property
    def confirmed(self) -> str:
        found = self.engine.store.confirmed()
        return found.commit if found else ""


FAR = peer("wg0", 9, "10.20.0.0/16")
BASE: list[Resource] = [*wg(), FAR, Route(dst="10.20.0.0/16", dev="wg0")]
MORE = Route(dst="10.30.0.0/16", dev="wg0")
GATEWAY = Route(dst="0.0.0.0/0", via="192.0.2.1", dev="eth0", metric=100)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    host = FakeHost()
    host.add(GATEWAY, 4)
    world = World(host)
    engine = engine_on(host, tmp_path, prober=world, line=world, patience=35.0, ticks=world.ticks)
    assert engine.probing is not None
    engine.probing.sleep = world.sleep
    found = Scene(world, engine)
    found.apply("c1", BASE)
    found.live(FAR)
    world.spoken.clear()
    return found


def test_what_answers_still_is_confirmed(scene: Scene) -> None:
    assert scene.apply("c2", [*BASE, MORE]).result == "changed"
    assert scene.confirmed == "c2"
    assert scene.world.spoken == ["arm 8", "disarm"]


def test_a_commit_that_changes_nothing_here_asks_nobody(scene: Scene) -> None:
    asked = scene.world.asked
    scene.apply("c2", BASE)
    assert (scene.confirmed, scene.world.asked) == ("c2", asked)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (Check("git", "192.0.2.200"), "the git server answered before"),
        (PING, "ping 10.9.0.1 answered before"),
        (Check("gateway", "192.0.2.1", "eth0"), "the default gateway 192.0.2.1 on eth0 answered before"),
    ],
)
def test_what_is_lost_by_a_change_takes_it_back(scene: Scene, lost: Check, words: str) -> None:
    before = scene.world.host.snapshot()
    scene.engine.converger.on_stage = lambda stage: scene.world.silent.add(lost) if stage == "execute" else None
    report = scene.apply("c2", [*BASE, MORE])
    assert report.result == "rolled back" and report.error and report.error.reason == "ProbeFailed"
    assert scene.world.host.snapshot() == before
    assert scene.rejected["c2"].startswith(words)
    assert scene.world.spoken == ["arm 8", "disarm"]


def test_a_peer_that_falls_silent_takes_a_change_back(scene: Scene) -> None:
    scene.engine.converger.on_stage = lambda stage: scene.world.deaf.add(FAR.key) if stage == "execute" else None
    assert scene.apply("c2", [*BASE, MORE]).result == "rolled back"
    assert scene.rejected["c2"].startswith("the peer p9 on wg0")


def test_what_did_not_answer_before_is_no_criterion(scene: Scene) -> None:
    scene.world.silent |= {PING, Check("gateway", "192.0.2.1", "eth0")}
    scene.world.deaf.add(FAR.key)
    assert scene.apply("c2", [*BASE, MORE]).result == "changed"


def test_it_is_asked_three_times_within_half_of_the_deadline(scene: Scene) -> None:
    world = scene.world
    scene.engine.converger.on_stage = lambda stage: world.silent.add(PING) if stage == "execute" else None
    begun, asked = world.now, world.asked
    scene.apply("c2", [*BASE, MORE])
    assert world.asked - asked == 1 + 3
    assert world.now - begun <= 5.0 + 1.0


def test_an_answer_at_the_third_try_will_do(scene: Scene) -> None:
    world = scene.world
    tries: list[int] = []

    def ask() -> None:
        tries.append(1)
        (world.silent.clear if len(tries) == 4 else lambda: None)()

    world.on_ask = ask
    scene.engine.converger.on_stage = lambda stage: world.silent.add(world.git()) if stage == "execute" else None
    assert scene.apply("c2", [*BASE, MORE]).result == "changed"


def test_another_gateway_in_the_place_of_one_will_do(scene: Scene) -> None:
    other = GATEWAY.model_copy(update={"via": "192.0.2.2"})

    def move(stage: str) -> None:
        if stage == "verify":
            scene.world.silent.add(Check("gateway", "192.0.2.1", "eth0"))
            scene.world.host.remove(GATEWAY)
            scene.world.host.add(other, 4)

    scene.engine.converger.on_stage = move
    assert scene.apply("c2", [*BASE, MORE]).result == "changed"


def test_no_gateway_in_the_place_of_one_takes_a_change_back(scene: Scene) -> None:
    scene.engine.converger.on_stage = lambda stage: scene.world.host.remove(GATEWAY) if stage == "verify" else None
    assert scene.apply("c2", [*BASE, MORE]).result == "rolled back"


# A change at both ends

OTHER = FAR.model_copy(update={"endpoint": "198.51.100.1:6000"})
TWO_ENDED: list[Resource] = [*wg(port=6000), OTHER, Route(dst="10.20.0.0/16", dev="wg0")]


@pytest.fixture
def trial(scene: Scene) -> Scene:
    """A change whose far end has not followed yet."""
    scene.world.deaf.add(FAR.key)
    report = scene.apply("c2", TWO_ENDED)
    assert report.result == "changed" and scene.engine.trial is not None
    return scene


def test_a_far_end_that_has_not_followed_counts_neither_way(trial: Scene) -> None:
    assert (trial.confirmed, trial.rejected) == ("c1", {})
    assert trial.engine.store.journal() is not None
    assert trial.world.spoken == ["arm 8", "arm 53"]
    trial.world.now += 42.0
    assert trial.engine.judge() is None


def test_it_is_confirmed_once_the_far_end_is_heard(trial: Scene) -> None:
    trial.world.deaf.clear()
    reports = [trial.engine.judge(), trial.engine.judge()]
    assert reports[0] is None  # it was only then spoken to
    assert reports[1] is not None and reports[1].ok
    assert (trial.confirmed, trial.engine.store.journal()) == ("c2", None)
    assert trial.world.spoken[-1] == "disarm"


def test_a_far_end_that_never_follows_takes_the_change_back(trial: Scene) -> None:
    trial.world.now += 44.0
    report = trial.engine.judge()
    assert report is not None and report.result == "rolled back"
    assert (trial.confirmed, list(trial.rejected)) == ("c1", ["c2"])
    assert trial.world.host.stored["wireguard"]["wg0",].resource.listen_port == 5000
    assert trial.world.spoken[-1] == "disarm"


def test_drift_is_repaired_towards_the_plan_on_trial(trial: Scene) -> None:
    trial.world.host.remove(Route(dst="10.20.0.0/16", dev="wg0"))
    assert trial.engine.converge().result == "repaired"
    assert trial.world.host.stored["wireguard"]["wg0",].resource.listen_port == 6000
    assert trial.engine.store.journal() is not None


def test_the_same_commit_again_is_not_tried_again(trial: Scene) -> None:
    assert trial.apply("c2", TWO_ENDED).operations == 0
    assert trial.engine.trial is not None


def test_a_newer_commit_takes_the_place_of_the_one_on_trial(trial: Scene) -> None:
    assert trial.apply("c3", BASE).result == "changed"
    assert (trial.confirmed, trial.engine.trial, trial.rejected) == ("c3", None, {})
    assert trial.engine.store.journal() is None


def test_a_restart_in_mid_trial_goes_back(trial: Scene) -> None:
    again = engine_on(trial.world.host, trial.engine.store.folder)
    assert again.restore().rolled_back
    assert trial.world.host.stored["wireguard"]["wg0",].resource.listen_port == 5000


def test_what_lies_behind_a_far_end_is_asked_when_that_has_followed(scene: Scene) -> None:
    behind = Check("ping", "10.20.0.7")
    runtime = Runtime(deadline=10.0, probes=(ProbeTarget(kind="ping", target="10.20.0.7"),))
    scene.world.deaf.add(FAR.key)
    scene.engine.converger.on_stage = lambda stage: scene.world.silent.add(behind) if stage == "execute" else None
    assert scene.apply("c2", TWO_ENDED, runtime).result == "changed"
    scene.world.deaf.clear()
    scene.engine.judge()
    report = scene.engine.judge()
    assert report is not None and report.result == "rolled back"
    assert scene.rejected["c2"].startswith("ping 10.20.0.7 answered before")


def test_a_git_server_behind_a_far_end_is_asked_when_that_has_followed(scene: Scene) -> None:
    scene.world.git_address = "10.20.0.7"
    scene.world.deaf.add(FAR.key)
    scene.engine.converger.on_stage = lambda stage: (
        scene.world.silent.add(scene.world.git()) if stage == "execute" else None
    )
    assert scene.apply("c2", TWO_ENDED).result == "changed"
    scene.world.deaf.clear()
    scene.world.silent.clear()
    reports = [scene.engine.judge(), scene.engine.judge()]
    assert reports[1] is not None and reports[1].ok and scene.confirmed == "c2"


# Interruptions


def test_what_the_parent_took_back_is_rejected(trial: Scene) -> None:
    again = engine_on(trial.world.host, trial.engine.store.folder)
    again.restore("the deadline passed before the change was confirmed")
    assert trial.rejected["c2"] == "the deadline passed before the change was confirmed"


def test_a_commit_that_is_cut_off_twice_is_rejected(scene: Scene) -> None:
    engine = scene.engine
    confirmed = engine.store.confirmed()
    assert confirmed
    for expected in ({}, {"c2": "it was cut off 2 times in mid-change, by a reboot or a kill"}):
        engine.store.begin(Journal(confirmed.digest, "d2", "c2", "boot", 1))
        engine_on(scene.world.host, engine.store.folder).restore()
        assert scene.rejected == expected


# Several peers, and a prober that takes its time

SECOND = peer("wg0", 8, "10.40.0.0/16", endpoint="198.51.100.8:5000")
THIRD = peer("wg1", 7, "10.50.0.0/16", endpoint="198.51.100.7:5000")
MANY: list[Resource] = [*BASE, SECOND, *wg("wg1", 5001, number=2), THIRD]


@pytest.fixture
def many(scene: Scene) -> Scene:
    """Three peers with sessions, on two devices."""
    scene.apply("c1b", MANY)
    scene.live(FAR, SECOND, THIRD)
    scene.world.spoken.clear()
    return scene


@pytest.mark.parametrize("lost", [FAR, SECOND, THIRD], ids=lambda one: one.name)
def test_each_of_several_peers_has_to_answer(many: Scene, lost: Peer) -> None:
    many.engine.converger.on_stage = lambda stage: many.world.deaf.add(lost.key) if stage == "execute" else None
    assert many.apply("c2", [*MANY, MORE]).result == "rolled back"
    assert many.rejected["c2"].startswith(f"the peer {lost.name} on {lost.dev}")


def test_a_peer_that_answers_late_is_waited_for_and_no_longer_than_that(many: Scene) -> None:
    world = many.world

    def deafen(stage: str) -> None:
        if stage == "execute":
            world.deaf.add(SECOND.key)

    def hear(seconds: float) -> None:
        world.now += seconds
        if world.now > 103.0:
            world.deaf.clear()

    world.now = 100.0
    many.engine.converger.on_stage = deafen
    assert many.engine.probing is not None
    many.engine.probing.sleep = hear
    assert many.apply("c2", [*MANY, MORE]).result == "changed"
    assert world.now <= 105.0


def test_an_answer_counts_however_long_the_prober_takes_with_it(scene: Scene) -> None:
    """Peers are heard at once; what is asked beside them answers only afterwards, in a thread of its own."""
    heard = threading.Event()
    provoke = scene.world.provoke

    def provoked(tunnels: Iterable[LiveTunnel]) -> None:
        provoke(tunnels)
        heard.set()

    def ask() -> None:
        assert heard.wait(10)
        threading.Event().wait(0.05)

    scene.world.provoke = provoked  # type: ignore[method-assign]
    scene.world.on_ask = ask
    scene.engine.converger.on_stage = lambda stage: scene.world.silent.add(PING) if stage == "execute" else None
    report = scene.apply("c2", [*BASE, MORE])
    assert report.result == "rolled back", "it answered before, so it is missed after"
    assert scene.rejected["c2"].startswith("ping 10.9.0.1 answered before")


BOTH: list[Resource] = [
    *wg(port=6000),
    FAR.model_copy(update={"endpoint": "198.51.100.1:6000"}),
    SECOND.model_copy(update={"endpoint": "198.51.100.8:6000"}),
    *wg("wg1", 6001, number=2),
    THIRD.model_copy(update={"endpoint": "198.51.100.7:6000"}),
]


@pytest.mark.parametrize("followed", [(), (FAR,), (FAR, SECOND), (FAR, SECOND, THIRD)], ids=len)
def test_a_plan_is_on_trial_until_the_last_far_end_has_followed(many: Scene, followed: tuple[Peer, ...]) -> None:
    many.world.deaf |= {FAR.key, SECOND.key, THIRD.key}
    assert many.apply("c2", BOTH).result == "changed"
    many.world.deaf -= {one.key for one in followed}
    judged = [many.engine.judge() for _ in range(3)]
    if len(followed) == 3:
        assert many.confirmed == "c2" and many.engine.trial is None
    else:
        assert judged == [None] * 3 and many.confirmed == "c1b" and many.engine.trial is not None
        assert len(many.engine.trial.waiting) == 3 - len(followed)
        left = {FAR.name, SECOND.name, THIRD.name} - {one.name for one in followed}
        assert any(name in many.engine.trial.text for name in left)


def test_what_a_far_end_sent_before_the_change_does_not_count_as_following(many: Scene) -> None:
    stored = many.world.host.stored["peer"]
    for one in (FAR, SECOND, THIRD):
        session = stored[one.key].session
        assert session is not None
        stored[one.key] = replace(stored[one.key], session=replace(session, rx_bytes=10_000))
    many.world.deaf |= {FAR.key, SECOND.key, THIRD.key}

    def kept(stage: str) -> None:
        """The counters stay, as those of a kernel do when an endpoint is set."""
        if stage == "probe":
            for one in (FAR, SECOND, THIRD):
                session = stored[one.key].session
                assert session is not None
                stored[one.key] = replace(stored[one.key], session=replace(session, rx_bytes=10_000))

    many.engine.converger.on_stage = kept
    assert many.apply("c2", BOTH).result == "changed"
    assert many.engine.judge() is None and many.engine.judge() is None
    assert many.confirmed == "c1b"


def test_what_lies_behind_several_far_ends_is_on_trial_too_once_they_have_followed(scene: Scene) -> None:
    """Where every far end has followed at once, what is behind them has yet to answer before it is confirmed."""
    runtime = Runtime(deadline=10.0, probes=(ProbeTarget(kind="ping", target="10.20.0.7"),))
    assert scene.apply("c2", TWO_ENDED, runtime).result == "changed"
    assert scene.confirmed == "c1" and scene.engine.trial is not None
    scene.world.silent.add(Check("ping", "10.20.0.7"))
    reports = [scene.engine.judge(), scene.engine.judge()]
    found = next(report for report in reports if report is not None)
    assert found.result == "rolled back" and scene.confirmed == "c1"


def test_who_stays_silent_is_looked_at_until_the_time_is_over(many: Scene) -> None:
    looks: list[float] = []
    many.engine.converger.on_stage = lambda stage: many.world.deaf.add(FAR.key) if stage == "execute" else None
    assert many.engine.probing is not None
    sleep = many.engine.probing.sleep

    def counted(seconds: float) -> None:
        looks.append(seconds)
        sleep(seconds)

    many.engine.probing.sleep = counted
    begun = many.world.now
    many.apply("c2", [*MANY, MORE])
    assert many.world.now - begun >= 5.0 and len(looks) > 10
    assert max(looks) <= 0.5 and all(seconds >= 0 for seconds in looks)


def test_a_tunnel_that_dies_while_a_plan_is_on_trial_loses_its_flows(scene: Scene) -> None:
    """Failover waits for no far end; and what drifts meanwhile is repaired to what is alive."""
    watched = Runtime(deadline=10.0, watches=(watch(*DEVS),))

    def network(far: str) -> list[Resource]:
        kept = [one for one in ways_of(group(1, 2), watched).resources if one.key != ("wg4", THERE)]
        return [*kept, Peer(dev="wg4", public_key=THERE, endpoint=far)]

    assert scene.apply("c1b", network("198.51.100.1:5000"), watched).result == "changed"
    for dev in DEVS:
        scene.world.host.handshake(dev, THERE, age=5.0)
    scene.engine.wanted.update_alive(DEVS, frozenset(DEVS))
    scene.engine.apply_owed()
    scene.world.deaf.add(("wg4", THERE))
    assert scene.apply("c2", network("198.51.100.1:6000"), watched).result == "changed"
    assert scene.engine.trial is not None

    def members() -> list[int]:
        return [member.id for member in scene.world.host.stored["nexthop"][group(1).key].resource.group]

    assert members() == [10, 20]
    scene.engine.wanted.update_alive(DEVS, frozenset(DEVS) - {"wg1"})
    report = scene.engine.apply_owed()
    assert report is not None and report.ok and members() == [20]
    assert scene.engine.converge().operations == 0 and members() == [20]
    scene.world.host.remove(ROUTE)
    assert scene.engine.converge().result == "repaired" and members() == [20]
    assert scene.engine.trial is not None
    scene.engine.wanted.update_alive(DEVS, frozenset(DEVS))
    scene.engine.apply_owed()
    assert members() == [10, 20]
    scene.world.deaf.clear()
    assert [scene.engine.judge() is None, scene.engine.judge() is None] == [True, False]
    assert scene.confirmed == "c2" and members() == [10, 20]


THERE = key(9)


def test_what_lies_behind_a_far_end_that_has_followed_at_once_is_on_trial_all_the_same(scene: Scene) -> None:
    runtime = Runtime(deadline=10.0, probes=(ProbeTarget(kind="ping", target="10.20.0.7"),))
    stored = scene.world.host.stored["peer"]

    def follow() -> None:
        """The far end speaks while others are asked."""
        one = stored[FAR.key]
        session = one.session or Session(None, None)
        stored[FAR.key] = replace(one, session=replace(session, rx_bytes=session.rx_bytes + 148))

    scene.world.on_ask = follow
    assert scene.apply("c2", TWO_ENDED, runtime).result == "changed"
    assert scene.engine.trial is not None and scene.engine.trial.waiting == [] and scene.confirmed == "c1"
    assert scene.engine.trial.text == "what lies behind the tunnels"
    scene.world.silent.add(Check("ping", "10.20.0.7"))
    report = scene.engine.judge()
    assert report is not None and report.result == "rolled back" and scene.confirmed == "c1"
