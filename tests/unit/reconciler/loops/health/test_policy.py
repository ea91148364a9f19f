"""When a tunnel is dead, and when it is back: scripts of probes and answers against a clock that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loops.health.policy import Ask, HealthPolicy, Verdict
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
    slow: Callable[[Ask], float] = lambda ask: 0.0
    """What some answers take longer."""
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
                    self.under_way.append((self.now + self.rtt + self.slow(ask), ask))
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
    assert 10.4 <= world.until(ALL) <= 11.5, "the hold-down begins with the third answer in a row"


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
    assert world.until(ALL - {B}, small, 30) >= 5
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
    assert world.run(0.3, lambda ask: False) == {A}, "B may still answer"
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


def small_ones(lost: Callable[[int], bool], dev: str = B) -> Answers:
    """A network that loses some small probes of a tunnel, by their number."""
    counted: list[int] = []

    def answer(ask: Ask) -> bool:
        if ask.dev != dev or ask.size is not None:
            return True
        counted.append(ask.sequence)
        return not lost(len(counted) - 1)

    return answer


def test_a_tunnel_is_dead_after_three_probes_a_quarter_of_an_interval_and_the_longest_round_trip() -> None:
    policy = HealthPolicy()
    policy.follow([link(A, interval=0.25)], frozenset({A}), frozenset(), 0.0)
    (first,) = policy.probes(0.0)
    policy.answered(A, first.sequence, 0.125)
    assert policy.judge(0.125) == {A}
    for now in (0.25, 0.5, 0.75):
        assert [ask.size for ask in policy.probes(now)] == [None]
        assert policy.judge(now) == {A}
    dead = 0.75 + 0.0625 + 0.125
    assert policy.due(0.8) == dead
    assert policy.judge(dead - 0.001) == {A} and policy.judge(dead) == frozenset()


def test_what_answers_from_the_first_moment_is_known_to_be_quick() -> None:
    world = World().follow(link(A, B))
    world.run(1.0)
    assert world.until(frozenset({A}), but(B)) <= 0.8


@settings(max_examples=30)
@given(st.lists(st.floats(0.0, 0.6), max_size=6), st.integers(11, 40))
def test_round_trips_of_any_length_and_a_little_loss_kill_nobody(slow: list[float], every: int) -> None:
    """Among any seven probes one takes long, so that much is known to be possible."""
    world = World(rtt=0.6).follow(link(A, B))
    world.run(1.0)
    world.rtt = 0.01
    times = [0.6, *slow]
    world.slow = lambda ask: times[ask.sequence % len(times)] if ask.dev == B else 0.0
    world.run(40, small_ones(lambda n: n % every == every - 1))
    assert len(world.history) == 1, world.history


def test_after_a_pause_of_the_process_probes_are_not_sent_in_a_burst() -> None:
    world = settled(A)
    world.now += 60.0
    before = world.asked
    world.run(1.0)
    assert world.asked - before <= 6 + 2


def test_four_full_probes_lost_in_a_row_are_nothing_and_five_are_too_much() -> None:
    for lost, flaps in ((4, False), (5, True)):
        world = settled()
        full: list[int] = []

        def answer(ask: Ask, full: list[int] = full, lost: int = lost) -> bool:
            if ask.dev == B and ask.size is not None:
                full.append(ask.sequence)
                return len(full) % (lost + 1) == 0
            return True

        world.run(60, answer)
        assert (len(world.history) > 1) == flaps


def test_relapses_are_forgotten_after_sixteen_hold_downs_and_no_sooner() -> None:
    world = settled()
    for hold in (1, 2):
        world.until(ALL - {B}, but(B))
        assert round(world.until(ALL) / 10) == hold
    world.run(12 * 10)
    world.until(ALL - {B}, but(B))
    assert round(world.until(ALL) / 10) == 4


def test_what_was_left_out_before_has_relapsed_once() -> None:
    world = World().follow(link(A, B, C), frozenset({A, C}), frozenset({B}))
    assert 9.0 <= world.until(ALL) <= 12.0
    world.until(ALL - {B}, but(B))
    assert world.until(ALL) >= 20.0


def test_a_far_end_that_begins_to_answer_by_one_tunnel_first_leaves_the_others_their_time() -> None:
    world = World().follow(link(A, B, C))
    world.policy.handshakes(dict.fromkeys(ALL, 30.0))
    world.run(5, lambda ask: False)
    world.slow = lambda ask: 0.0 if ask.dev == A else 0.3
    world.run(5)
    assert world.policy.alive == ALL and len(world.history) == 1


def test_loss_is_judged_by_half_a_window_or_more() -> None:
    """Four of its first twelve are a third of those, and a sixth of the first twenty-five."""
    world = settled(A)
    world.policy.follow([link(A, B)], frozenset({A}), frozenset(), world.now)
    world.until(frozenset({A, B}))
    world.history.clear()
    world.run(30, small_ones(lambda n: n < 12 and n % 3 == 2))
    assert [alive for _, alive in world.history] == [{A, B}]


def test_a_window_of_fifty_is_remembered_and_no_more() -> None:
    world = settled()
    world.run(30, small_ones(lambda n: n == 0))
    assert world.verdict(B).loss == 0.0
    world.run(9.9, small_ones(lambda n: n == 0))
    assert world.verdict(B).loss == 0.02


def test_a_new_tunnel_answers_three_times_before_it_carries_anything() -> None:
    world = settled(A)
    world.policy.follow([link(A, B)], frozenset({A}), frozenset(), world.now)
    assert world.run(2.0, small_ones(lambda n: n != 2 and n != 5)) == {A}
    assert world.until(frozenset({A, B})) <= 1.0


def test_words_for_people() -> None:
    world = settled()
    world.until(ALL - {B}, but(B))
    assert world.verdict(B).text == "no answer through it"
    world.run(2.0)
    assert world.verdict(B).text == "no answer through it; well again, used after 10 s"
    assert [name for name, _ in world.policy.reasons] == [B] and set(world.policy.devices) == ALL


def test_an_answer_may_take_three_intervals_where_these_are_long() -> None:
    for late, counts in ((5.9, True), (6.1, False)):
        policy = HealthPolicy()
        policy.follow([link(A, interval=2.0)], frozenset({A}), frozenset(), 0.0)
        (first,) = policy.probes(0.0)
        policy.judge(late - 0.05)
        policy.judge(late)
        policy.answered(A, first.sequence, late)
        (verdict,) = policy.verdicts()
        assert (verdict.rtt, verdict.loss) == ((late, 0.0) if counts else (None, 1.0))
