"""When a tunnel is dead, and when it is back: scripts of probes and answers against a clock that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from reconciler.loops.health.policy import FULL_MISSES, Ask, HealthPolicy, Verdict
from schema.plan import Watch, WatchedTunnel

KEY = "A" * 43 + "="
A, B, C = "wg-b-1", "wg-b-2", "wg-b-3"
ALL = frozenset({A, B, C})
Answers = Callable[[Ask], bool]


def link(*devs: str, **settings: float | bool) -> Watch:
    tunnels = tuple(WatchedTunnel(dev=dev, public_key=KEY) for dev in devs)
    words = {"size": 1420, "interval": 0.2, "misses": 3, "loss": 0.2, "hold": 10.0} | settings
    return Watch.model_validate({"name": "a~b", "source": "fe80::1", "target": "fe80::2", "tunnels": tunnels, **words})


def everything(ask: Ask) -> bool:
    return True


def but(*devs: str) -> Answers:
    """A network in which these tunnels are silent."""
    return lambda ask: ask.dev not in devs


@dataclass
class World:
    """A link, and a clock in steps of a twentieth of a second. An answer takes 10 ms."""

    policy: HealthPolicy = field(default_factory=HealthPolicy)
    now: float = 100.0
    under_way: list[tuple[float, Ask]] = field(default_factory=list)
    asked: int = 0
    rtt: float = 0.01
    history: list[tuple[float, frozenset[str]]] = field(default_factory=list)

    def follow(self, watch: Watch, standing: frozenset[str] = ALL, out: frozenset[str] = frozenset()) -> World:
        self.policy.follow([watch], standing, out, self.now)
        return self

    def run(self, seconds: float, answers: Answers = everything) -> frozenset[str]:
        end = self.now + seconds
        while self.now < end:
            arrived = [ask for time, ask in self.under_way if time <= self.now]
            self.under_way = [(time, ask) for time, ask in self.under_way if time > self.now]
            for ask in arrived:
                self.policy.answered(ask.dev, ask.sequence, self.now)
            alive = self.policy.judge(self.now)
            if not self.history or self.history[-1][1] != alive:
                self.history.append((self.now, alive))
            for ask in self.policy.probes(self.now):
                self.asked += 1
                if answers(ask):
                    self.under_way.append((self.now + self.rtt, ask))
            self.now += 0.05
        return self.policy.alive

    def until(self, wanted: frozenset[str], answers: Answers = everything, most: float = 1000.0) -> float:
        """Seconds until these and no others are alive."""
        started = self.now
        while self.run(0.05, answers) != wanted:
            assert self.now - started < most, self.policy.verdicts()
        return self.now - started

    def verdict(self, dev: str) -> Verdict:
        return next(verdict for verdict in self.policy.verdicts() if verdict.dev == dev)


def settled(*devs: str, **settings: float | bool) -> World:
    """A link whose tunnels have all answered for half a minute."""
    world = World().follow(link(*(devs or (A, B, C)), **settings))
    world.run(30)
    return world


def test_tunnels_that_answer_are_alive() -> None:
    world = settled()
    assert world.policy.alive == ALL and len(world.history) == 1
    assert world.verdict(A).loss == 0.0 and world.verdict(A).rtt is not None


def test_a_probe_is_sent_each_interval_and_one_of_five_has_company_of_full_size() -> None:
    world = World().follow(link(A))
    sizes: list[int | None] = []
    world.run(10, lambda ask: not sizes.append(ask.size))
    assert sizes.count(None) == 50 and sizes.count(1420) == 10


def test_three_missed_probes_make_a_tunnel_dead_and_it_alone() -> None:
    world = settled()
    assert world.until(ALL - {B}, but(B)) <= 0.2 + 3 * 0.2
    assert world.verdict(B).reason == "Silent" and "no answer" in world.verdict(B).text


def test_two_missed_probes_do_not() -> None:
    """Two of twelve: less is lost than may be."""
    world = settled()
    small: list[int] = []

    def two_of_twelve(ask: Ask) -> bool:
        if ask.dev != B or ask.size is not None:
            return True
        small.append(ask.sequence)
        return len(small) % 12 > 1

    world.run(60, two_of_twelve)
    assert len(small) >= 299 and world.policy.alive == ALL and len(world.history) == 1


def test_it_wakes_when_there_is_something_to_send_or_to_judge_and_never_in_the_past() -> None:
    world = settled(A)
    silent = lambda ask: False  # noqa: E731
    for _ in range(100):
        world.run(0.05, silent)
        due = world.policy.due(world.now)
        assert due is not None and due <= world.now + 0.2
        assert due > world.now or not world.policy.probes(world.now - 0.2)
    unheard = World().follow(link(A), frozenset({A}))
    unheard.policy.handshakes({A: 10.0})
    unheard.run(30, silent)
    assert unheard.policy.alive == {A}
    due = unheard.policy.due(unheard.now)
    assert due is not None and due >= unheard.now - 0.05


def test_a_slow_path_is_not_a_silent_one() -> None:
    world = World(rtt=0.9).follow(link(A))
    world.run(30)
    assert world.policy.alive == {A} and len(world.history) == 1


def test_a_process_that_was_away_takes_nobody_for_dead() -> None:
    world = settled()
    world.now += 5.0
    world.run(1)
    assert world.policy.alive == ALL and len(world.history) == 1


def test_a_healed_tunnel_returns_after_its_hold_down() -> None:
    world = settled()
    world.until(ALL - {B}, but(B))
    world.run(60, but(B))
    assert 10.0 <= world.until(ALL) <= 11.5


def test_each_relapse_doubles_the_hold_down_up_to_a_bound_and_good_behaviour_is_rewarded() -> None:
    world = settled()
    waits = []
    for _ in range(8):
        world.until(ALL - {B}, but(B))
        waits.append(round(world.until(ALL) / 10))
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]
    world.run(16 * 10 + 1)
    world.until(ALL - {B}, but(B))
    assert round(world.until(ALL) / 10) == 1


def test_where_all_are_dead_the_first_that_is_well_is_used_at_once() -> None:
    world = settled()
    world.until(frozenset(), but(A, B, C))
    assert world.until(frozenset({B}), but(A, C)) <= 1.0
    assert world.until(ALL) >= 10.0


def test_a_far_end_that_starts_again_and_again_makes_no_tunnel_wait_longer() -> None:
    """All of its tunnels fall silent together, and the last of them is heard a moment after the first."""
    world = settled(hold=2.0)
    for _ in range(4):
        world.until(frozenset(), but(A, B, C))
        world.until(frozenset({A}), but(B, C))
        assert world.until(ALL) < 4.0


def test_unless_something_else_stands_in_for_the_link() -> None:
    world = settled(backed=True)
    world.until(frozenset(), but(A, B, C))
    assert world.until(frozenset({B}), but(A, C)) >= 10.0


def test_a_fault_during_the_hold_down_begins_it_anew() -> None:
    world = settled()
    world.until(ALL - {B}, but(B))
    world.run(8)
    world.run(2, but(B))
    assert world.until(ALL) >= 10.0


def test_loss_over_the_threshold_is_a_fault_and_under_half_of_it_is_none_again() -> None:
    world = settled()

    def lossy(per: int) -> Answers:
        counted = {"n": 0}

        def answer(ask: Ask) -> bool:
            if ask.dev != B or ask.size is not None:
                return True
            counted["n"] += 1
            return counted["n"] % per != 0

        return answer

    assert world.run(60, lossy(8)) == ALL
    world.until(ALL - {B}, lossy(3), 15)
    assert world.verdict(B).reason == "Lossy" and "20% may be" in world.verdict(B).text
    assert world.run(60, lossy(8)) == ALL - {B}
    world.until(ALL, lossy(20), 60)


def test_a_tunnel_that_passes_small_packets_only_is_dead() -> None:
    world = settled()
    small = lambda ask: ask.dev != B or ask.size is None  # noqa: E731
    assert world.until(ALL - {B}, small, 30) >= FULL_MISSES
    assert world.verdict(B).reason == "PacketTooBig" and "1420 bytes" in world.verdict(B).text
    world.run(60, small)
    world.until(ALL, most=30)


def test_a_new_tunnel_carries_nothing_before_it_has_answered_and_does_not_wait_after() -> None:
    world = settled(A, B)
    world.policy.follow([link(A, B, C)], frozenset({A, B}), frozenset(), world.now)
    assert world.run(120, but(C)) == {A, B}
    assert world.verdict(C).reason == "New"
    assert world.until(ALL) <= 1.0


def test_a_link_that_is_seen_for_the_first_time_is_taken_as_it_stands() -> None:
    world = World().follow(link(A, B, C), frozenset({A, B}))
    assert world.run(0.05) == {A, B}
    world.run(30, but(C))
    assert world.history == [(100.0, frozenset({A, B}))]


def test_what_was_left_out_before_has_its_hold_down_before_it() -> None:
    world = World().follow(link(A, B, C), frozenset({A, C}), frozenset({B}))
    assert world.run(1.0) == {A, C}
    assert world.until(ALL) >= 9.0
    narrow = World().follow(link(A, B, C), frozenset({A, C}), frozenset({B}))
    assert narrow.run(120, lambda ask: ask.dev != B or ask.size is None) == {A, C}


def test_while_nobody_ever_answered_sessions_decide() -> None:
    world = World().follow(link(A, B, C), frozenset({A}))
    world.policy.handshakes({A: 30.0, B: 100.0, C: None})
    world.run(5, lambda ask: False)
    assert world.policy.alive == {A, B}
    world.policy.handshakes({A: 200.0})
    assert world.run(1, lambda ask: False) == {B} and world.verdict(A).reason == "NoSession"


def test_the_first_answer_of_a_link_ends_that() -> None:
    world = World().follow(link(A, B, C), ALL)
    world.policy.handshakes({A: 30.0, B: 30.0, C: 30.0})
    world.run(5, lambda ask: False)
    assert world.policy.alive == ALL
    assert world.run(5, but(C)) == {A, B}


def test_late_answers_and_copies_say_nothing() -> None:
    world = settled()
    world.until(ALL - {B}, but(B))
    for sequence in range(0x10000):
        world.policy.answered(B, sequence, world.now - 3600)
    world.policy.answered("wg-unknown", 1, world.now)
    assert world.run(5, but(B)) == ALL - {B}


def test_what_is_no_longer_watched_is_forgotten() -> None:
    world = settled()
    world.policy.follow([], ALL, frozenset(), world.now)
    assert world.policy.alive == frozenset() and world.policy.due(world.now) is None and world.policy.verdicts() == []


@given(st.lists(st.tuples(st.floats(0.05, 8.0), st.sampled_from([(), (A,), (B,), (A, B)])), max_size=12))
def test_whatever_happens_beside_one_that_is_alive_none_is_back_before_its_hold_down(
    script: list[tuple[float, tuple[str, ...]]],
) -> None:
    world = settled(A, B)
    for seconds, silent in script:
        world.run(seconds, but(*silent))
    died: dict[str, float] = {}
    before = frozenset({A, B})
    for time, alive in world.history:
        for dev in before - alive:
            died[dev] = time
        for dev in alive - before:
            assert time - died[dev] >= 10.0 or not alive & before
        before = alive


@given(st.lists(st.tuples(st.floats(0.05, 30.0), st.booleans()), max_size=8))
def test_in_the_end_what_answers_is_alive_and_what_does_not_is_dead(script: list[tuple[float, bool]]) -> None:
    world = settled(A, B)
    for seconds, works in script:
        world.run(seconds, everything if works else but(B))
    assert world.run(2, but(A)) <= {B}
    world.until(frozenset({A, B}), everything, 10.0 * 2**6)
