"""How exits are, in words."""

from __future__ import annotations

from reconciler.loops.exits.forwarding import Forwarding
from reconciler.loops.exits.health import ProbeResult
from reconciler.loops.exits.policy import ExitPolicy
from reconciler.loops.exits.providers.base import ProviderError
from reconciler.loops.exits.rows import broken, row
from reconciler.loops.exits.status import conclude, lines
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway, session

LONDON = gateway("uk/london401")


def connected(*rtts: float | None) -> ExitPolicy:
    policy = ExitPolicy(an_exit())
    policy.directory.known([LONDON])
    policy.measured({LONDON.id: [0.014] * 3}, 0.0)
    policy.adopt(0, session(LONDON), 0.202, 0.0)
    for rtt in rtts:
        policy.tunnels[0].pulse.note(ProbeResult(rtt))
    return policy


def test_one_line_for_each_gateway() -> None:
    assert lines([row(connected(), 1.0)]) == [
        "exit pia: uk/london401 14 ms (baseline 202 ms, threshold 2.02 s, strikes 0/3)"
    ]


def test_strikes_say_why() -> None:
    (line,) = lines([row(connected(0.2, None), 1.0)])
    assert line.endswith("strikes 1/3, 50% lost): silent")


def test_without_a_gateway_traffic_is_refused() -> None:
    policy = ExitPolicy(an_exit())
    assert lines([row(policy, 0.0)]) == ["exit pia: no gateway, traffic is refused"]
    found = conclude([row(policy, 0.0)])
    assert found is not None and (found.status, found.reason) == ("False", "Electing")


def test_without_a_kill_switch_it_leaves_by_the_underlay_and_that_is_said() -> None:
    policy = ExitPolicy(an_exit(kill_switch=False))
    assert lines([row(policy, 0.0)]) == ["exit pia: no gateway, traffic leaves by the underlay"]
    found = conclude([row(policy, 0.0)])
    assert found is not None and found.message == "pia has no gateway: its traffic leaves by the underlay"


def test_a_port_that_is_refused_is_said_and_the_way_out_is_there() -> None:
    forwarding = Forwarding()
    forwarding.refused("wg-pia-1", ProviderError("PortRefused", "port 40123 is busy"), 1.0)
    rows = [row(connected(), 1.0, forwarding)]
    assert rows[0]["port_trouble"] == {"reason": "PortRefused", "message": "port 40123 is busy"}
    assert lines(rows)[1] == "exit pia: no port: PortRefused: port 40123 is busy"
    found = conclude(rows)
    assert found is not None
    assert (found.status, found.message) == ("True", "pia by uk/london401; pia has no port: port 40123 is busy")


def test_probes_that_know_nobody_to_ask_are_trouble() -> None:
    unprobed = ProviderError("NameUnknown", "check.example cannot be resolved")
    found = conclude([row(ExitPolicy(an_exit()), 0.0, unprobed=unprobed)])
    assert found is not None and found.reason == "NameUnknown"
    assert found.message.endswith("; check.example cannot be resolved")


def test_an_exit_that_cannot_be_looked_after_says_what_becomes_of_its_traffic() -> None:
    rows = [broken(an_exit(kill_switch=False), ProviderError("KeyUnusable", "no space"))]
    assert lines(rows) == ["exit pia: no gateway, traffic leaves by the underlay", "exit pia: KeyUnusable: no space"]


def test_a_providers_words_are_shown_and_the_tunnel_stays() -> None:
    policy = connected()
    policy.not_discovered(ProviderError("SignatureWrong", "the list is not signed by PIA"), 1.0)
    found = conclude([row(policy, 1.0)])
    assert found is not None and (found.status, found.reason) == ("False", "SignatureWrong")
    assert found.message == "pia stays as it is: the list is not signed by PIA"


def test_a_degraded_gateway_without_another_is_a_condition() -> None:
    found = conclude([row(connected(None, None, None), 1.0)])
    assert found is not None and found.reason == "Degraded"
    assert "uk/london401 is silent, and nothing better is known" in found.message


def test_all_is_well() -> None:
    found = conclude([row(connected(0.2), 1.0)])
    assert found is not None and (found.status, found.message) == ("True", "pia by uk/london401")
    assert conclude([]) is None
