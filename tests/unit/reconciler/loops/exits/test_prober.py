from __future__ import annotations

import pytest

from reconciler.base.web import HttpFailure, Request, Response, WebError
from reconciler.loops.exits.health import ProbeResult
from reconciler.loops.exits.prober import RESOLVED, ExitProber
from reconciler.loops.exits.providers.base import ProviderError
from schema.plan.base import Family
from tests.unit.reconciler.loops.exits.samples import an_exit, gateway, health, session

FOUR, SIX = "10.64.0.2/32", "fd00:64::2/128"


class Internet:
    """A server behind a tunnel, resolvers beside it and within, and a clock that a request moves on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.status = 204
        self.fails: HttpFailure | None = None
        self.addresses: dict[Family, str] = {"inet": "192.0.2.80", "inet6": "2001:db8::80"}
        self.within: dict[Family, str] = {}
        """What the resolver within the tunnel says."""
        self.asked: list[Request] = []
        self.looked_up: list[tuple[str, Family]] = []
        self.asked_within: list[tuple[str, Family, str]] = []
        self.prober = ExitProber(self.http, self.resolve, self.ask_name, lambda: self.now)

    def http(self, request: Request) -> Response:
        self.asked.append(request)
        self.now += 0.25
        if self.fails:
            raise WebError(self.fails, "as told")
        return Response(self.status, {}, b"")

    def resolve(self, name: str, family: Family) -> str:
        self.looked_up.append((name, family))
        if family not in self.addresses:
            raise OSError("no such name")
        return self.addresses[family]

    def ask_name(self, server: str, name: str, family: Family, dev: str, seconds: float) -> str:
        self.asked_within.append((server, family, dev))
        self.now += 0.5
        if family not in self.within:
            raise OSError("no such name")
        return self.within[family]

    def ask(
        self, check: str = "http://check.example/generate_204", *ours: str, to: str = "uk/a", dns: str | None = None
    ) -> ProbeResult:
        exit = an_exit(health=health(check=check), dns=(dns,) if dns else None)
        return self.prober.ask(exit, session(gateway(to), *(ours or (FOUR,))), "wg-pia")

    @property
    def address(self) -> str | None:
        return self.asked[-1].address


def test_a_probe_leaves_by_its_tunnel_for_the_address_that_was_looked_up_beside_it() -> None:
    internet = Internet()
    assert internet.ask() == ProbeResult(0.25)
    (request,) = internet.asked
    assert (request.dev, request.address, request.port, request.tls) == ("wg-pia", "192.0.2.80", 80, False)
    assert (request.name, request.path, request.seconds) == ("check.example", "/generate_204", health().timeout)


def test_a_check_over_tls_asks_its_port() -> None:
    internet = Internet()
    internet.ask("https://check.example")
    (request,) = internet.asked
    assert (request.port, request.tls, request.path, request.target) == (443, True, "/", "/")


def test_path_and_query_are_asked_for_as_they_are_written() -> None:
    internet = Internet()
    internet.ask("http://check.example/a%20b?c=%2F&d")
    assert internet.asked[0].target == "/a%20b?c=%2F&d"


@pytest.mark.parametrize(
    ("ours", "address"),
    [((FOUR,), "192.0.2.80"), ((SIX, FOUR), "192.0.2.80"), ((SIX,), "2001:db8::80")],
    ids=["IPv4", "both", "IPv6"],
)
def test_the_address_is_of_a_family_that_the_tunnel_has_and_of_ipv4_where_it_can_be(
    ours: tuple[str, ...], address: str
) -> None:
    internet = Internet()
    internet.ask("http://check.example/", *ours)
    assert internet.address == address


def test_a_name_with_ipv6_only_is_asked_by_it() -> None:
    internet = Internet()
    del internet.addresses["inet"]
    internet.ask("http://check.example/", FOUR, SIX)
    assert internet.address == "2001:db8::80"


def test_tunnels_of_different_families_keep_different_addresses() -> None:
    internet = Internet()
    internet.ask("http://check.example/", FOUR)
    internet.ask("http://check.example/", SIX)
    internet.ask("http://check.example/", FOUR)
    assert [request.address for request in internet.asked] == ["192.0.2.80", "2001:db8::80", "192.0.2.80"]
    assert internet.looked_up == [("check.example", "inet"), ("check.example", "inet6")]


@pytest.mark.parametrize("check", ["http://192.0.2.9/", "http://[2001:db8::9]:8080/"])
def test_an_address_is_not_looked_up(check: str) -> None:
    internet = Internet()
    internet.ask(check)
    assert internet.address in ("192.0.2.9", "2001:db8::9") and not internet.looked_up


def test_where_the_name_cannot_be_looked_up_beside_the_tunnel_its_own_servers_are_asked() -> None:
    internet = Internet()
    internet.addresses, internet.within = {}, {"inet": "192.0.2.81"}
    assert internet.ask() == ProbeResult(0.25), "looking up is no part of the round trip"
    assert internet.address == "192.0.2.81"
    internet.ask()
    assert internet.asked_within == [("10.64.0.1", "inet", "wg-pia")]


def test_what_one_gateway_says_of_a_name_is_nothing_to_another() -> None:
    internet = Internet()
    internet.addresses, internet.within = {}, {"inet": "192.0.2.81"}
    internet.ask()
    internet.within = {"inet": "192.0.2.82"}
    internet.ask(to="nl/b")
    assert internet.address == "192.0.2.82"


def test_servers_that_are_written_down_are_asked_too() -> None:
    internet = Internet()
    internet.addresses = {}
    with pytest.raises(ProviderError):
        internet.ask(dns="9.9.9.9")
    assert [server for server, _, _ in internet.asked_within] == ["10.64.0.1", "9.9.9.9"]


def test_a_name_without_any_address_is_said_with_what_to_do() -> None:
    internet = Internet()
    internet.addresses = {}
    with pytest.raises(ProviderError, match=r"^check\.example, which `health\.check` names, .* nameserver") as raised:
        internet.ask()
    assert raised.value.reason == "NameUnknown" and not internet.asked


def test_another_status_is_somebody_elses_answer() -> None:
    internet = Internet()
    internet.status = 200
    assert internet.ask() == ProbeResult(0.25, genuine=False)


@pytest.mark.parametrize("failure", ["CertificateWrong", "TlsFailed", "NotHttp", "TooLarge"])
def test_what_no_web_server_would_say_is_somebody_elses_answer(failure: HttpFailure) -> None:
    internet = Internet()
    internet.fails = failure
    assert internet.ask() == ProbeResult(0.25, genuine=False)


@pytest.mark.parametrize("failure", ["TimedOut", "Unreachable", "NameUnknown"])
def test_nothing_is_no_answer(failure: HttpFailure) -> None:
    internet = Internet()
    internet.fails = failure
    assert internet.ask().rtt is None


def test_an_address_is_looked_up_again_after_a_while_and_the_last_one_stays_while_nobody_knows_another() -> None:
    internet = Internet()
    internet.ask()
    internet.ask()
    assert internet.looked_up == [("check.example", "inet")]
    internet.now += RESOLVED
    internet.addresses = {}
    internet.ask()
    assert len(internet.looked_up) == 2
    assert [request.address for request in internet.asked] == ["192.0.2.80"] * 3
