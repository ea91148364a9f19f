"""How an exit looks for a gateway where much is broken, as scripts of events."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.loops.exits.directory import LIST_AGAIN, UNTOLD
from reconciler.loops.exits.policy import ExitPolicy
from reconciler.loops.exits.providers.base import ProviderError, ProviderReason
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway, health, session
from tests.unit.reconciler.loops.exits.world import World

FIVE = [gateway(f"r{n}/g{n}", n) for n in range(1, 6)]
A, B, C, D, E = (one.id for one in FIVE)


def world(use: int = 1, **changes: Any) -> World:
    return World(an_exit(use, **changes), FIVE)


def quick(use: int = 1, **changes: Any) -> World:
    return world(use, health=health(interval=1.0, timeout=1.0), **changes)


def hollow(w: World, *names: str) -> None:
    """They answer echoes, and nothing passes their tunnels."""
    for name in names:
        w.rtt[name], w.echoes[name] = None, True


def mute(w: World, *names: str) -> None:
    """They answer no echo."""
    w.echoes |= dict.fromkeys(names, False)


class TestWhoseFault:
    def test_one_that_wants_us_to_come_back_later_lets_the_next_be_tried(self) -> None:
        w = world(cool_down=30.0)
        w.refuse[A] = ProviderError("HttpError", "busy", retry_after=3600)
        w.run(5)
        assert w.carrying == (B,)
        w.run(600)
        assert w.policy.cooling(A, w.now)

    def test_later_is_later_even_where_there_is_no_other(self) -> None:
        w = World(an_exit(cool_down=0.0), FIVE[:1])
        w.refuse[A] = ProviderError("HttpError", "busy", retry_after=600)
        w.run(590)
        assert w.tried == [A]
        w.refuse.clear()
        w.run(70)
        assert w.carrying == (A,)

    @pytest.mark.parametrize("reason", ["TokenExpired", "ClockWrong", "CertificateWrong"])
    def test_what_one_gateway_says_is_its_own_fault(self, reason: ProviderReason) -> None:
        w = world()
        w.refuse[A] = ProviderError(reason, "no")
        w.run(5)
        assert w.carrying == (B,)
        assert w.policy.cooling(A, w.now)

    @pytest.mark.parametrize("reason", ["TokenExpired", "ClockWrong"])
    def test_what_two_say_in_a_row_is_not(self, reason: ProviderReason) -> None:
        w = world()
        w.refuse = {one.id: ProviderError(reason, "no") for one in FIVE}
        w.run(3)
        assert w.tried == [A, B]
        w.run(300)
        assert w.tried[:5] == [A, B, C, D, E]
        assert len(w.tried) <= 8

    def test_two_that_say_different_things_are_two_faults(self) -> None:
        w = world()
        w.refuse = {A: ProviderError("TokenExpired", "no"), B: ProviderError("ClockWrong", "no")}
        w.run(5)
        assert w.carrying == (C,)

    @pytest.mark.parametrize("reason", ["CredentialsRefused", "CredentialsUnreadable", "DeviceLimit", "NotPinned"])
    def test_what_only_the_account_can_say_stops_all(self, reason: ProviderReason) -> None:
        w = world()
        w.refuse[A] = ProviderError(reason, "no")
        w.run(3)
        assert w.tried == [A] and not w.policy.cooling(A, w.now)

    @pytest.mark.parametrize("by_hand", [lambda policy: policy.next(), lambda policy: policy.pin(C)])
    def test_by_hand_is_at_once(self, by_hand: Any) -> None:
        w = world()
        w.refuse = {one.id: ProviderError("CredentialsRefused", "no") for one in FIVE}
        w.run(200)
        w.refuse.clear()
        tries = len(w.tried)
        w.run(1)
        assert len(w.tried) == tries
        by_hand(w.policy)
        w.run(3)
        assert w.carrying

    def test_by_hand_is_at_once_where_one_wanted_us_to_come_back_later(self) -> None:
        w = World(an_exit(), FIVE[:1])
        w.refuse[A] = ProviderError("HttpError", "busy", retry_after=3600)
        w.run(100)
        w.refuse.clear()
        w.policy.next()
        w.run(3)
        assert w.carrying == (A,)


class TestWithoutEcho:
    def test_one_that_answers_no_echo_carries_where_there_is_no_other(self) -> None:
        w = World(an_exit(), FIVE[:1])
        mute(w, A)
        w.run(5)
        assert w.carrying == (A,)

    def test_those_that_answer_are_tried_before(self) -> None:
        w = world()
        mute(w, A, B)
        hollow(w, C, D, E)
        w.run(200)
        assert w.tried[:4] == [C, D, E, A]
        assert w.carrying == (A,)

    def test_preferred_ones_come_first_among_them(self) -> None:
        w = world(prefer=("r4",))
        mute(w, *(one.id for one in FIVE))
        w.run(5)
        assert w.carrying == (D,)

    @pytest.mark.parametrize("fault", [None, 0.9])
    def test_it_replaces_one_that_is_bad_where_no_other_is_left(self, fault: float | None) -> None:
        w = quick(hold=0.0)
        w.run(20)
        assert w.carrying == (A,)
        w.rtt = dict.fromkeys(w.rtt) | {A: fault, D: 0.08}
        mute(w, D)
        w.run(150)
        assert w.carrying == (D,)

    def test_it_is_not_tried_for_a_better_standing_while_something_is_well(self) -> None:
        w = quick(prefer=("r4",), hold=0.0, cool_down=30.0)
        mute(w, D)
        w.run(300)
        assert w.carrying == (A,) and w.tried == [A]

    def test_by_hand_it_is(self) -> None:
        w = quick()
        mute(w, D)
        w.run(20)
        w.policy.pin(D)
        w.run(3)
        assert w.carrying == (D,)

    def test_it_is_one_of_two(self) -> None:
        w = World(an_exit(2, health=health(interval=1.0, timeout=1.0)), FIVE[:2])
        mute(w, B)
        w.run(10)
        assert w.carrying == (A, B)

    def test_what_the_list_no_longer_has_is_left_for_it(self) -> None:
        w = quick(hold=0.0)
        mute(w, B, C, D, E)
        w.run(20)
        w.gateways = FIVE[1:]
        w.policy.discovered(w.gateways, w.now)
        w.run(10)
        assert w.carrying == (B,)

    def test_without_a_network_they_are_tried_more_and_more_seldom(self) -> None:
        w = quick()
        w.rtt = dict.fromkeys(w.rtt)
        w.refuse = {one.id: ProviderError("Unreachable", "no network") for one in FIVE}
        w.run(600)
        assert 10 <= len(w.tried) <= 20
        w.rtt[E], w.refuse = 0.1, {}
        w.run(30)
        assert w.carrying == (E,)

    def test_those_that_answer_again_do_not_wait_for_all_that_do_not(self) -> None:
        many = [gateway(f"r/g{n:02}", n) for n in range(1, 41)]
        w = World(an_exit(cool_down=30.0), many)
        w.rtt = dict.fromkeys(w.rtt)
        hollow(w, many[0].id)
        w.run(300)
        assert w.carrying == ()
        w.rtt[many[0].id] = 0.02
        w.run(120)
        assert w.carrying == (many[0].id,)


class TestMany:
    @pytest.mark.parametrize("cool_down", [0.0, 30.0, 300.0])
    @pytest.mark.parametrize("prefer", [(), ("r",)])
    def test_every_one_of_them_has_its_turn(self, cool_down: float, prefer: tuple[str, ...]) -> None:
        many = [gateway(f"{'r' if n <= 20 else 's'}/g{n:02}", n) for n in range(1, 41)]
        w = World(an_exit(cool_down=cool_down, prefer=prefer), many)
        hollow(w, *(one.id for one in many[:20]))
        w.run(20 * 21 + 30)
        assert w.carrying == (many[20].id,)
        assert w.tried[:21] == [one.id for one in many[:21]]

    def test_a_second_round_goes_through_all_as_well(self) -> None:
        w = quick(cool_down=0.0)
        hollow(w, *(one.id for one in FIVE))
        w.run(90)
        w.rtt[E] = 0.1
        w.run(100)
        assert w.carrying == (E,)
        assert w.tried[5:9] == [A, B, C, D]

    def test_two_that_answer_once_and_die_do_not_take_turns_for_ever(self) -> None:
        w = quick(cool_down=0.0, hold=0.0)
        for _ in range(300):
            w.tick()
            for name in (A, B):
                w.rtt[name] = None if name in w.carrying else 0.02
                w.echoes[name] = True
        assert w.carrying == (C,)
        assert w.policy.switches == 2

    def test_what_failed_long_ago_is_as_good_as_any(self) -> None:
        w = quick(cool_down=30.0)
        w.run(20)
        w.rtt[A] = None
        w.run(20)
        assert w.carrying == (B,)
        w.rtt[A] = 0.02
        w.run(700)
        w.rtt[B] = None
        w.run(10)
        assert w.carrying == (A,)


class TestRecovery:
    def test_what_is_well_again_is_not_given_up_for_what_has_proven_itself_meanwhile(self) -> None:
        w = quick()
        w.run(80)
        hollow(w, *(one.id for one in FIVE))
        w.run(5)
        assert w.policy._coming is not None
        w.rtt[A] = 0.02
        w.run(3)
        w.rtt = dict.fromkeys(w.rtt, 0.02)
        w.run(60)
        assert w.carrying == (A,) and w.policy.switches == 0


class TestList:
    @pytest.mark.parametrize("others", [0, 1])
    def test_one_that_moved_is_found(self, others: int) -> None:
        w = World(an_exit(health=health(interval=1.0, timeout=1.0)), FIVE[: 1 + others])
        hollow(w, *(one.id for one in FIVE[1:]))
        w.run(100)
        w.gateways = [gateway(A, 99), *FIVE[1 : 1 + others]]
        w.at[A] = w.gateways[0].addresses[0]
        w.run(90)
        assert w.carrying == (A,)
        assert w.policy.carrying[0].gateway == w.gateways[0]

    def test_one_that_moved_before_it_ever_carried_is_found(self) -> None:
        w = World(an_exit(), FIVE[:1])
        w.policy.directory.known(FIVE[:1])
        w.at[A] = "203.0.113.99"
        w.run(10)
        w.gateways = [gateway(A, 1, addresses=("203.0.113.99",))]
        w.run(LIST_AGAIN + 30)
        assert w.carrying == (A,)

    def test_nobody_is_asked_more_than_once_a_minute(self) -> None:
        w = quick()
        w.run(20)
        w.rtt = dict.fromkeys(w.rtt)
        before = w.verbs.count("discover")
        w.run(600)
        assert 8 <= w.verbs.count("discover") - before <= 11

    def test_while_all_is_well_nobody_is_asked(self) -> None:
        w = quick()
        w.run(600)
        assert w.verbs.count("discover") == 1


class TestSessions:
    def test_one_that_proves_nothing_is_made_sure_of_before_it_is_given_up(self) -> None:
        w = world()
        w.forgotten = True
        w.run(40)
        assert w.carrying == (A,) and w.tried == [A]
        assert w.verbs.count("renew") == 1

    def test_another_session_has_its_time_to_prove_itself(self) -> None:
        policy = ExitPolicy(an_exit())
        policy.directory.known(FIVE)
        policy.measured({A: [0.01] * 3}, 1000.0)
        policy.step(1000.0)
        policy.registered(0, session(FIVE[0]), 1000.0)
        renew = next(action for now in range(1000, 1020) for action in policy.step(now) if action.verb == "renew")
        assert renew.session == session(FIVE[0])
        policy.renewed(0, session(FIVE[0], "10.64.0.9/32"), 1019.0)
        policy.step(1030.0)
        assert policy.tunnels[0].session == session(FIVE[0], "10.64.0.9/32")
        policy.step(1040.0)
        assert 0 not in policy.tunnels or policy.tunnels[0].gateway.id != A

    def test_a_good_renewal_ends_the_trouble_of_the_one_before(self) -> None:
        w = world()
        w.run(30)
        w.policy.not_renewed(0, ProviderError("TimedOut", "no answer"), w.now)
        assert w.policy.trouble is not None
        w.policy.renewed(0, session(FIVE[0]), w.now)
        assert w.policy.trouble is None


class TestUntold:
    @pytest.mark.parametrize("verb", ["discover", "measure", "register", "probe"])
    def test_what_is_never_told_does_not_stop_everything(self, verb: str) -> None:
        w = world()
        w.lost = {verb}
        w.run(10)
        assert w.carrying == ()
        w.lost.clear()
        w.run(UNTOLD + 30)
        assert len(w.carrying) == 1

    def test_a_probe_of_what_carries_counts_as_missed(self) -> None:
        w = quick()
        w.run(20)
        w.lost = {"probe"}
        w.run(2 * UNTOLD)
        assert w.policy.tunnels[0].pulse.misses >= 1
        w.lost.clear()
        w.run(UNTOLD + 10)
        assert w.policy.tunnels[0].pulse.misses == 0

    def test_a_renewal_is_asked_for_again(self) -> None:
        w = World(an_exit(health=health(interval=1.0, timeout=1.0)), FIVE[:1])
        w.run(20)
        w.rtt[A], w.lost = None, {"renew"}
        w.run(UNTOLD + 60)
        assert w.verbs.count("renew") == 2


class TestSlots:
    def test_no_more_are_adopted_than_are_used(self) -> None:
        w = quick()
        for slot, one in enumerate(FIVE[:2]):
            w.policy.adopt(slot, session(one), None, w.now)
        assert w.carrying == (A,)
        w.run(20)
        w.rtt[A] = None
        w.run(10)
        assert w.carrying == (B,)

    def test_without_a_free_slot_nothing_is_elected(self) -> None:
        exit = an_exit()
        w = World(an_exit(slots=exit.slots[:1], health=health(interval=1.0, timeout=1.0)), FIVE)
        w.run(20)
        w.rtt[A] = None
        w.run(60)
        assert w.carrying == (A,)
