from __future__ import annotations

import pytest

from bench.kernel.inside import excess, ratio


def test_several_tunnels_are_compared_with_one() -> None:
    assert ratio(1.0, 2.9, 3.0, tunnels=3) == pytest.approx(2.9)
    assert ratio(1.0, 1.1, 3.0, tunnels=3) == pytest.approx(1.1)


def test_what_the_machine_cannot_encrypt_is_not_counted_against_them() -> None:
    assert ratio(1.0, 1.5, 1.5, tunnels=3) == pytest.approx(3.0)
    assert ratio(1.0, 0.75, 1.5, tunnels=3) == pytest.approx(1.5)


def test_a_wide_one_that_gets_more_than_it_should_takes_nothing_away() -> None:
    assert ratio(1.0, 3.0, 3.3, tunnels=3) == pytest.approx(3.0)


def test_what_is_sent_again_beside_them_too_is_the_machines_doing() -> None:
    assert excess((0, 6000), (0, 6000)) == 0.0
    assert excess((120, 6000), (110, 6000)) == 0.0


def test_what_only_they_send_again_is_counted() -> None:
    """A flow that several tunnels reorder: the article counted nine segments in a hundred."""
    assert 100 * excess((540, 6000), (0, 6000)) > 7
    assert 100 * excess((30, 6000), (0, 6000)) > 0.1
