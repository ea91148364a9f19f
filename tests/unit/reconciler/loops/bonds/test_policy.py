"""Looks at a bond, and what is said about it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from reconciler.kinds.link import BondState, Leg
from reconciler.loops.bonds.policy import FEWEST, BondPolicy, Complaint, complaint, ports_to_try
from schema.leg import Sender
from schema.plan import Rider, WatchedBond

RIDERS = tuple(
    Rider(dev=f"wg-b-{n}", port=5000 + n, far_port=6000 + n, source="192.0.2.1", target="192.0.2.2") for n in range(3)
)
BOND = WatchedBond(name="bond0", mode="802.3ad", hash="layer3+4", members=("eno1", "eno2", "eno3"), tunnels=RIDERS)
LEGS = tuple(Leg(name, True, 1) for name in BOND.members)
WELL = BondState("802.3ad", "layer3+4", LEGS, 1, partner=True)


def lacp(*legs: Leg, partner: bool = True, hash_: str = "layer3+4") -> BondState:
    return BondState("802.3ad", hash_, legs, 1, partner)


@pytest.mark.parametrize(
    ("state", "reason", "text"),
    [
        (WELL, None, ""),
        (lacp(*LEGS, partner=False), "NoPartner", "make eno1, eno2 and eno3 one group with LACP on"),
        (lacp(*LEGS, hash_="layer2"), "OtherOptions", "is 802.3ad, layer2; the plan counts on 802.3ad, layer3+4"),
        (BondState("balance-rr", "layer2", LEGS), "OtherOptions", "bond0 is balance-rr"),
        (lacp(*LEGS[:2], Leg("eno3", True, 2)), "MemberApart", "eno3 of bond0 is in another"),
        (lacp(*LEGS[:2]), "MemberApart", "eno3 is no member of bond0"),
        (lacp(Leg("eno1", False, 2), *LEGS[1:]), "LegDown", "eno1 of bond0 is without a carrier"),
        (lacp(*(Leg(leg.name, False) for leg in LEGS), partner=False), "LegDown", "no leg of bond0 has"),
    ],
)
def test_what_is_wrong_with_a_state(state: BondState, reason: str | None, text: str) -> None:
    found = complaint(BOND, state)
    assert (found and found.reason) == reason
    assert found is None or text in found.text


def test_a_backup_counts_on_no_hash_and_no_partner() -> None:
    bond = BOND.model_copy(update={"mode": "active-backup", "hash": None})
    legs = tuple(Leg(leg.name, True) for leg in LEGS)
    assert complaint(bond, BondState("active-backup", "layer2", legs)) is None


def test_it_is_said_when_it_was_seen_twice_and_no_more_when_it_is_over() -> None:
    policy, alone = BondPolicy(BOND), BondState("802.3ad", "layer3+4", LEGS, 1, partner=False)
    reasons = [
        found and found.reason for state in (alone, WELL, alone, alone, WELL) for found in [policy.look(state, {})]
    ]
    assert reasons == [None, None, None, "NoPartner", None]


def counters(place: dict[str, str], rate: float = 50e6) -> Iterator[dict[str, int]]:
    """Bytes by interface, look by look, where tunnels arrive by these legs."""
    draw = random.Random(1)
    now = dict.fromkeys((*BOND.members, *(rider.dev for rider in RIDERS)), 0)
    while True:
        for dev, leg in place.items():
            amount = int(draw.uniform(0.2, 1.8) * rate)
            now[dev] += amount
            now[leg] += amount * 104 // 100
        yield dict(now)


def after_looks(policy: BondPolicy, series: Iterator[dict[str, int]], looks: int = 2 * FEWEST) -> Complaint | None:
    found = None
    for _ in range(looks):
        found = policy.look(WELL, next(series))
    return found


def test_two_busy_tunnels_on_one_leg_beside_an_idle_one_are_a_collision() -> None:
    found = after_looks(BondPolicy(BOND), counters({"wg-b-0": "eno2", "wg-b-1": "eno2", "wg-b-2": "eno1"}))
    assert found is not None and found.reason == "TunnelsCollide"
    assert "all arrive by eno2 of bond0 while eno3 is idle" in found.text
    moved = next(rider for rider in RIDERS[:2] if f"for {rider.dev} try" in found.text)
    here, there = ports_to_try(BOND, moved)[0]
    assert f"{here} here with {there} there" in found.text


@pytest.mark.parametrize(
    ("place", "rate"),
    [
        ({"wg-b-0": "eno2", "wg-b-1": "eno3", "wg-b-2": "eno1"}, 50e6),
        ({"wg-b-0": "eno2", "wg-b-2": "eno1"}, 50e6),
        ({"wg-b-0": "eno2", "wg-b-1": "eno2"}, 50e3),
    ],
    ids=["each has its own", "nothing to share", "hardly any traffic"],
)
def test_there_is_no_collision_where(place: dict[str, str], rate: float) -> None:
    assert after_looks(BondPolicy(BOND), counters(place, rate)) is None


def test_a_collision_is_forgotten_when_a_counter_begins_anew() -> None:
    policy = BondPolicy(BOND)
    assert after_looks(policy, counters({"wg-b-0": "eno2", "wg-b-1": "eno2"})) is not None
    assert policy.look(WELL, {}) is None


def test_ports_to_try_move_the_way_here_and_not_the_way_out() -> None:
    sender = Sender.of("192.0.2.1", "192.0.2.2", 3)
    for rider in RIDERS:
        pairs = ports_to_try(BOND, rider)
        assert len(pairs) == 3
        for here, there in pairs:
            assert there not in [other.far_port for other in RIDERS]
            assert here == rider.port or here not in [other.port for other in RIDERS]
            assert sender.leg(here, there) == sender.leg(rider.port, rider.far_port)
            assert sender.leg(there, here) != sender.leg(rider.far_port, rider.port)


def test_ports_are_tried_even_where_addresses_are_not_known() -> None:
    assert ports_to_try(BOND, Rider(dev="wg-b-0", port=5000, far_port=6000))
