"""The life of an exit, as scripts of events."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loops.exits.directory import LIST_LIFE
from reconciler.loops.exits.policy import DRAIN, ExitPolicy
from reconciler.loops.exits.providers.base import ProviderError
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway, health, session
from tests.unit.reconciler.loops.exits.world import World

FIVE = [gateway(f"r{n}/g{n}", n) for n in range(1, 6)]
A, B, C = (one.id for one in FIVE[:3])


def world(use: int = 1, **changes: Any) -> World:
    return World(an_exit(use, **changes), FIVE)


def quick(**changes: Any) -> World:
    return world(health=health(interval=1.0, timeout=1.0), **changes)


class TestConnecting:
    def test_the_nearest_of_five_carries_once_it_has_answered(self) -> None:
        w = world()
        w.run(5)
        assert w.carrying == (A,)
        assert w.verbs[:4] == ["discover", "measure", "register", "probe"]
        assert w.policy.switches == 0

    def test_one_that_takes_our_key_and_leads_nowhere_is_not_used(self) -> None:
        w = world()
        w.rtt[A], w.echoes[A] = None, True
        w.run(40)
        assert w.carrying == (B,)
        assert w.policy.cooling(A, w.now)

    def test_one_behind_a_captive_portal_is_given_up_at_once(self) -> None:
        w = world()
        w.portals.add(A)
        w.run(5)
        assert w.carrying == (B,)

    def test_one_that_refuses_our_key_cools_down(self) -> None:
        w = world()
        w.refuse[A] = ProviderError("Refused", "no")
        w.run(5)
        assert w.carrying == (B,)

    @pytest.mark.parametrize("carries", [True, False])
    def test_where_all_refuse_our_key_they_are_tried_more_and_more_seldom(self, carries: bool) -> None:
        w = quick()
        w.run(20 if carries else 0)
        before = w.verbs.count("register")
        w.refuse = {one.id: ProviderError("HttpError", "no") for one in FIVE}
        w.policy.next()
        w.run(280)
        tries = w.verbs.count("register") - before
        assert 10 <= tries <= 15  # each of them at once, and then in up to a minute
        assert w.carrying == ((A,) if carries else ())
        w.refuse.clear()
        w.run(65)
        assert w.carrying and w.carrying != ((A,) if carries else ())

    def test_wrong_credentials_are_no_fault_of_a_gateway_and_are_tried_more_and_more_seldom(self) -> None:
        w = world()
        w.refuse = {one.id: ProviderError("CredentialsRefused", "no") for one in FIVE}
        w.run(300)
        tries = w.verbs.count("register")
        assert 4 <= tries <= 8
        assert w.policy.trouble is not None and not w.policy.cooling(A, w.now)
        w.refuse.clear()
        w.run(400)
        assert w.carrying == (A,) and w.policy.trouble is None

    def test_a_list_that_cannot_be_had_is_asked_for_again_and_an_older_one_serves(self) -> None:
        w = world()
        w.no_list = ProviderError("SignatureWrong", "no")
        w.policy.directory.known(FIVE)
        w.run(60)
        assert w.carrying == (A,)
        assert 3 <= w.verbs.count("discover") <= 5
        assert w.policy.trouble is not None

    def test_the_provider_says_when_to_come_back(self) -> None:
        w = world()
        w.no_list = ProviderError("HttpError", "busy", retry_after=120)
        w.run(100)
        assert w.verbs.count("discover") == 1

    def test_the_list_is_asked_for_again_after_hours(self) -> None:
        w = world()
        w.run(5)
        w.now += LIST_LIFE
        w.tick()
        assert w.verbs.count("discover") == 2


class TestHealth:
    def test_silence_leads_to_another_after_exactly_three_strikes(self) -> None:
        w = quick()
        w.run(20)
        w.rtt[A] = None
        before, since = w.probes[A], w.now
        while w.carrying == (A,):
            w.tick()
        assert w.carrying == (B,)
        assert w.probes[A] - before <= 4  # the one that was under way, and three
        assert w.now - since <= 6

    def test_twelve_times_the_baseline_leads_to_another_and_three_times_does_not(self) -> None:
        w = quick()
        w.run(30)
        w.rtt[A] = 0.06
        w.run(60)
        assert w.carrying == (A,) and w.policy.switches == 0
        w.rtt[A] = 0.30  # of a baseline of 0.02
        w.run(10)
        assert w.carrying == (B,)

    def test_a_captive_portal_leads_to_another(self) -> None:
        w = quick()
        w.run(20)
        w.portals.add(A)
        w.run(6)
        assert w.carrying == (B,)

    def test_what_carries_goes_only_when_the_next_has_proven_itself(self) -> None:
        w = quick()
        w.run(20)
        w.rtt = dict.fromkeys(w.rtt)
        w.run(200)
        assert w.carrying == (A,)
        w.rtt[FIVE[3].id] = 0.02
        w.run(60)
        assert w.carrying == (FIVE[3].id,)

    def test_one_that_failed_is_not_chosen_again_while_it_cools(self) -> None:
        w = quick(hold=0.0)
        w.run(20)
        w.rtt[A] = None
        w.run(10)
        w.rtt[A] = 0.001
        w.rtt[B] = None
        w.run(10)
        assert w.carrying == (C,)

    def test_degraded_ones_wait_for_the_hold_down_and_dead_ones_do_not(self) -> None:
        w = quick(hold=60.0)
        w.run(20)
        w.rtt[A] = None
        w.run(10)
        assert w.carrying == (B,)
        w.run(20)
        w.rtt[B] = 0.9  # of a baseline of 0.04
        w.run(20)
        assert w.carrying == (B,)
        w.run(30)
        assert w.carrying == (C,)
        w.rtt[C] = None
        w.run(10)
        assert w.carrying not in ((B,), (C,))

    def test_two_equal_ones_do_not_take_turns(self) -> None:
        w = quick()
        w.distance = dict.fromkeys(w.distance, 0.01)
        w.run(600)
        assert w.policy.switches == 0 and len(w.history) == 1 + 1


class TestByHand:
    def test_next_takes_another_at_once_and_the_one_before_may_come_back(self) -> None:
        w = quick()
        w.run(20)
        for expected in (B, A, B, A):
            w.policy.next()
            w.run(3)
            assert w.carrying == (expected,)

    def test_next_without_another_is_forgotten(self) -> None:
        w = World(an_exit(), FIVE[:1])
        w.run(20)
        w.policy.next()
        w.run(5)
        w.gateways = FIVE
        w.policy.directory.known(FIVE)
        w.run(20)
        assert w.carrying == (A,)

    def test_a_pin_holds_while_it_works_and_comes_back_when_it_works_again(self) -> None:
        w = quick(cool_down=30.0, hold=10.0)
        w.run(20)
        w.policy.pin(C)
        w.run(5)
        assert w.carrying == (C,)
        w.rtt[C] = None
        w.run(8)
        assert w.carrying == (A,)
        w.rtt[C] = 0.06
        w.run(120)
        assert w.carrying == (C,)

    def test_a_pinned_gateway_that_did_not_answer_is_measured_again_at_once(self) -> None:
        w = quick(hold=0.0)
        w.rtt[C] = None
        w.run(10)
        w.rtt[C] = 0.06
        w.policy.pin(C)
        w.run(3)
        assert w.carrying == (C,)

    def test_a_pin_that_is_taken_back_before_it_led_to_anything_leaves_all_as_it_is(self) -> None:
        w = quick()
        w.run(20)
        w.policy.pin(C)
        w.policy.pin(None)
        w.run(20)
        assert w.carrying == (A,)

    def test_a_preferred_region_is_taken_from_afar_and_returned_to(self) -> None:
        w = quick(prefer=("r4",), cool_down=30.0, hold=10.0)
        w.run(20)
        assert w.carrying == (FIVE[3].id,)
        w.rtt[FIVE[3].id] = None
        w.run(10)
        assert w.carrying == (A,)
        w.rtt[FIVE[3].id] = 0.08
        w.run(120)
        assert w.carrying == (FIVE[3].id,)


class TestSeveral:
    def test_two_at_once_are_two_gateways(self) -> None:
        w = quick(use=2)
        w.run(20)
        assert w.carrying == (A, B)

    def test_one_that_dies_carries_nothing_from_its_last_strike_on_and_is_replaced(self) -> None:
        w = quick(use=2)
        w.run(20)
        w.rtt[A] = None
        w.run(10)
        assert sorted(w.carrying) == [B, C]
        assert all(B in carrying for _, carrying in w.history[2:])


class TestDraining:
    def test_the_old_tunnel_stays_until_no_flow_is_left(self) -> None:
        w = quick(on_switch="drain")
        w.run(20)
        w.policy.next()
        w.run(3)
        phases = {t.gateway.id: t.phase for t in w.policy.tunnels.values()}
        assert phases == {A: "draining", B: "carrying"}
        slot = next(slot for slot, t in w.policy.tunnels.items() if t.gateway.id == A)
        w.policy.drained(slot)
        assert [t.gateway.id for t in w.policy.tunnels.values()] == [B]

    def test_it_does_not_stay_for_ever(self) -> None:
        w = quick(on_switch="drain")
        w.run(20)
        w.policy.next()
        w.run(DRAIN + 10)
        assert len(w.policy.tunnels) == 1

    def test_another_switch_needs_its_place(self) -> None:
        w = quick(on_switch="drain")
        w.run(20)
        for _ in range(3):
            w.policy.next()
            w.run(3)
        assert len(w.policy.tunnels) == 2

    def test_a_dead_one_has_nothing_to_wait_for(self) -> None:
        w = quick(on_switch="drain")
        w.run(20)
        w.rtt[A] = None
        w.run(8)
        assert [t.gateway.id for t in w.policy.tunnels.values()] == [B]


class TestSessions:
    def test_one_that_ends_is_renewed_before(self) -> None:
        policy = ExitPolicy(an_exit())
        policy.directory.known(FIVE)
        policy.adopt(0, session(FIVE[0]), None, 1000.0, ends=1100.0)
        assert "renew" not in [action.verb for action in policy.step(1070.0)]
        assert "renew" in [action.verb for action in policy.step(1081.0)]
        assert "renew" not in [action.verb for action in policy.step(1082.0)]
        policy.renewed(0, session(FIVE[0]), 1083.0, ends=1200.0)
        assert "renew" not in [action.verb for action in policy.step(1150.0)]

    def test_one_that_falls_silent_is_renewed_in_case_the_provider_has_forgotten_our_key(self) -> None:
        w = World(an_exit(health=health(interval=1.0, timeout=1.0)), FIVE[:1])
        w.run(90)
        assert "renew" not in w.verbs
        w.rtt[A] = None
        w.run(130)
        assert w.verbs.count("renew") in (2, 3)
        assert w.carrying == (A,)

    def test_what_carried_before_a_restart_is_adopted(self) -> None:
        w = world()
        w.policy.adopt(1, session(FIVE[2]), 0.05, w.now)
        w.run(60)
        assert w.carrying == (C,)
        assert "register" not in w.verbs
        assert w.policy.tunnels[1].pulse.baseline == 0.05


@pytest.mark.parametrize("use", [1, 2])
@given(
    faults=st.lists(
        st.tuples(
            st.sampled_from([one.id for one in FIVE]),
            st.sampled_from(["away", "slow", "portal", "hollow", "mute", "well"]),
            st.integers(1, 90),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_flapping_and_no_gap(use: int, faults: list[tuple[str, str, int]]) -> None:
    """Whatever gateways do, and whether or not their echoes say so: what carries never becomes nothing, no two switches
    come within the hold-down unless what carried was dead, nothing that is well is given up for what is no better, and
    where a gateway is left that works, one carries before long."""
    w = World(an_exit(use, health=health(interval=1.0, timeout=1.0), hold=60.0, cool_down=30.0), FIVE)
    w.run(30)
    assert len(w.carrying) == use
    for name, fault, seconds in faults:
        w.rtt[name] = {"away": None, "hollow": None, "slow": 0.9}.get(fault, w.distance[name] * 2)
        (w.portals.add if fault == "portal" else w.portals.discard)(name)
        w.echoes.pop(name, None)
        if fault in ("hollow", "mute"):
            w.echoes[name] = fault == "hollow"
        until = w.now + seconds
        while w.now < until:
            before = {t.gateway.id: t.pulse for t in w.policy.tunnels.values() if t.phase == "carrying"}
            dead = [pulse.dead for pulse in before.values()]
            degraded = any(dead) or any(pulse.degraded for pulse in before.values())
            switched, count = w.policy.switched, w.policy.switches
            w.tick()
            assert w.carrying
            if w.policy.switches > count and switched is not None and w.policy.switched is not None:
                assert any(dead) or w.policy.switched - switched >= 60.0
            if w.policy.switches > count:
                assert degraded
    w.run(300)
    working = {one.id for one in FIVE if w.rtt[one.id] is not None and one.id not in w.portals}
    if working:
        assert working.intersection(w.carrying)
    for (_, earlier), (_, later) in pairwise(w.history):
        assert later or not earlier


class TestWhatIsReplacedAndWhatIsNot:
    def test_of_two_that_carry_the_one_that_is_dead_goes_though_it_is_preferred(self) -> None:
        w = quick(use=2, prefer=(A,), hold=0.0)
        w.run(10)
        assert set(w.carrying) == {A, B}
        w.rtt[A] = None
        w.run(60)
        assert set(w.carrying) == {B, C}

    def test_a_gateway_that_is_in_another_country_now_is_left(self) -> None:
        w = World(an_exit(countries=("gb",), hold=0.0), list(FIVE))
        w.run(5)
        assert w.carrying == (A,)
        moved = replace(FIVE[0], country="fr")
        w.gateways = [moved, *FIVE[1:]]
        w.policy.discovered(w.gateways, w.now)
        w.run(120)
        assert w.carrying == (B,)

    def test_while_one_carries_another_that_failed_has_its_cool_down(self) -> None:
        w = World(an_exit(2, cool_down=300.0), FIVE[:2])
        w.refuse[B] = ProviderError("Refused", "no")
        w.run(290)
        assert w.carrying == (A,) and w.tried.count(B) == 1
        w.refuse.clear()
        w.run(120)
        assert set(w.carrying) == {A, B}

    def test_where_nobody_answers_the_list_itself_is_doubted(self) -> None:
        """The provider may have moved all of its gateways, and nothing else would ever tell."""
        w = world()
        w.distance = {one.id: None for one in FIVE}  # type: ignore[misc]
        w.echoes = dict.fromkeys(w.distance, False)
        for name, refused in ((one.id, ProviderError("Refused", "no")) for one in FIVE):
            w.refuse[name] = refused
        w.run(300)
        assert 3 <= w.verbs.count("discover") <= 8
        well = world()
        well.run(300)
        assert well.verbs.count("discover") == 1

    def test_where_all_that_carries_is_dead_all_are_asked_again_soon(self) -> None:
        w = World(an_exit(health=health(interval=1.0, timeout=1.0)), FIVE[:1])
        w.run(20)
        w.rtt[A], before = None, w.verbs.count("measure")
        w.run(60)
        assert w.verbs.count("measure") - before >= 6, "every few seconds, and not every half of a minute"
