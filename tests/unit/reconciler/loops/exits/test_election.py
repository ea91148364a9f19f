"""Which gateway is chosen."""

from __future__ import annotations

from dataclasses import replace

from reconciler.loops.exits.election import candidates, elect, latency, named
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway

LONDON, LEEDS, PARIS = gateway("uk/london401"), gateway("uk_2/leeds1"), gateway("fr/paris2", country="fr")
ALL = [LONDON, LEEDS, PARIS]


def test_the_nearest_wins() -> None:
    assert elect(an_exit(), ALL, {LONDON.id: 0.014, LEEDS.id: 0.030, PARIS.id: 0.020}) is LONDON


def test_one_that_does_not_answer_is_never_the_nearest() -> None:
    assert elect(an_exit(prefer=("uk",)), ALL, {LONDON.id: None, LEEDS.id: 0.030, PARIS.id: 0.020}) is PARIS
    assert elect(an_exit(), ALL, {LONDON.id: None}) is None


def test_what_is_preferred_wins_from_afar_and_what_a_person_chose_before_that() -> None:
    near = {LONDON.id: 0.014, LEEDS.id: 0.300, PARIS.id: 0.200}
    assert elect(an_exit(prefer=("uk_2",)), ALL, near) is LEEDS
    assert elect(an_exit(prefer=("uk_2",)), ALL, near, PARIS.id) is PARIS


def test_one_that_does_not_answer_is_the_last_where_any_may_be_tried() -> None:
    near = {LONDON.id: None, LEEDS.id: None, PARIS.id: 0.020}
    assert elect(an_exit(prefer=("uk",)), ALL, near, silent=True) is PARIS
    assert elect(an_exit(prefer=("uk_2",)), [LONDON, LEEDS], near, silent=True) is LEEDS
    assert elect(an_exit(), ALL, near, LONDON.id, silent=True) is LONDON
    assert elect(an_exit(), [], near, LONDON.id, silent=True) is None


def test_of_those_as_near_the_one_that_can_take_most() -> None:
    big = gateway("uk/london402", weight=10)
    assert elect(an_exit(), [LONDON, big], {LONDON.id: 0.0140, big.id: 0.0155}) is big
    assert elect(an_exit(), [LONDON, big], {LONDON.id: 0.014, big.id: 0.040}) is LONDON


def test_ignored_and_foreign_ones_are_no_candidates() -> None:
    assert candidates(an_exit(ignore=("uk_2",)), ALL) == [LONDON, PARIS]
    assert candidates(an_exit(ignore=("uk/london401",)), ALL) == [LEEDS, PARIS]
    assert candidates(an_exit(countries=("fr",)), ALL) == [PARIS]


def test_who_wants_a_port_needs_a_gateway_that_has_some() -> None:
    forwards = gateway("nl/a1", port_forward=True)
    assert candidates(an_exit(port_forward=True), [*ALL, forwards]) == [forwards]


def test_a_latency_is_the_median_of_what_came_back() -> None:
    assert latency([0.010, 0.500, 0.012]) == 0.012
    assert latency([0.010, None, 0.012]) == 0.011
    assert latency([0.010, None, None]) is None
    assert latency([]) is None


def test_a_gateway_is_named_by_its_number_its_region_or_its_name() -> None:
    one = replace(gateway("uk/london401"), name="se-sto-wg-001")
    for word, fits in (("uk/london401", True), ("uk", True), ("se-sto-wg-001", True), ("london401", False)):
        assert named(one, [word]) == fits
        assert (candidates(an_exit(ignore=(word,)), [one]) == []) == fits
