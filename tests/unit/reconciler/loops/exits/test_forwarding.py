from __future__ import annotations

from reconciler.loops.exits.forwarding import AGAIN, LEAST, Forwarding
from reconciler.loops.exits.providers.base import PortForward, ProviderError

DATE = 1_800_000_000.0
BUSY = ProviderError("PortRefused", "port 40001 is busy")


def given(again: float = 900.0) -> Forwarding:
    """At 100, by wg-pia."""
    forwarding = Forwarding()
    assert forwarding.due("wg-pia", 100.0)
    forwarding.asking = True
    assert not forwarding.due("wg-pia", 100.0), "one question at a time"
    forwarding.given("wg-pia", PortForward(40001, DATE + 5_000_000, DATE + again), 100.0, DATE)
    return forwarding


def test_without_a_tunnel_nobody_is_asked() -> None:
    assert not Forwarding().due(None, 100.0)


def test_a_port_is_kept_when_its_provider_says_so() -> None:
    forwarding = given()
    assert (forwarding.port, forwarding.number) == (("wg-pia", 40001), 40001)
    assert not forwarding.due("wg-pia", 999.0) and forwarding.due("wg-pia", 1000.0)


def test_by_another_tunnel_it_is_another_port_at_once() -> None:
    forwarding = given()
    assert forwarding.due("wg-pia-2", 101.0)
    assert forwarding.port is None


def test_a_provider_that_says_now_is_not_asked_without_end() -> None:
    assert not given(again=-5.0).due("wg-pia", 100.0 + LEAST / 2)


def test_what_is_refused_is_asked_for_after_a_while() -> None:
    forwarding = given()
    forwarding.refused("wg-pia", BUSY, 1000.0)
    assert (forwarding.port, forwarding.trouble) == (None, BUSY)
    assert not forwarding.due("wg-pia", 999.0 + AGAIN) and forwarding.due("wg-pia", 1000.0 + AGAIN)


def test_a_provider_without_ports_is_asked_after_a_while() -> None:
    forwarding = Forwarding()
    forwarding.given("wg-pia", None, 100.0, DATE)
    assert forwarding.number is None and not forwarding.due("wg-pia", 101.0) and forwarding.due("wg-pia", 160.0)
    assert forwarding.trouble is not None and forwarding.trouble.reason == "PortRefused"


def test_what_one_tunnel_refused_is_asked_of_another_at_once() -> None:
    forwarding = given()
    forwarding.refused("wg-pia", BUSY, 1000.0)
    assert forwarding.due("wg-pia-2", 1001.0)
    assert forwarding.trouble is None


def test_a_port_ends_the_trouble() -> None:
    forwarding = given()
    forwarding.refused("wg-pia", BUSY, 1000.0)
    forwarding.given("wg-pia", PortForward(40001, DATE + 5_000_000, DATE + 900), 1100.0, DATE)
    assert forwarding.trouble is None
