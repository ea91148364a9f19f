from __future__ import annotations

import pytest

from reconciler.loops.exits.health import Answer
from reconciler.loops.exits.prober import RESOLVED, Prober
from reconciler.web import Failure, Request, Response, WebError
from tests.unit.reconciler.loops.exits.samples import health


class Internet:
    """A server behind a tunnel, a resolver beside it, and a clock that a request moves by its round trip."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.status = 204
        self.fails: Failure | None = None
        self.address: str | None = "192.0.2.80"
        self.asked: list[Request] = []
        self.looked_up: list[str] = []
        self.prober = Prober(self.http, self.resolve, lambda: self.now)

    def http(self, request: Request) -> Response:
        self.asked.append(request)
        self.now += 0.25
        if self.fails:
            raise WebError(self.fails, "as told")
        return Response(self.status, {}, b"")

    def resolve(self, name: str) -> str:
        self.looked_up.append(name)
        if self.address is None:
            raise OSError("no such name")
        return self.address

    def ask(self, check: str = "http://check.example/generate_204") -> Answer:
        return self.prober.ask(health(check=check), "wg-pia")


def test_a_probe_leaves_by_its_tunnel_for_the_address_that_was_looked_up_beside_it() -> None:
    internet = Internet()
    assert internet.ask() == Answer(0.25)
    (request,) = internet.asked
    assert (request.dev, request.address, request.port, request.tls) == ("wg-pia", "192.0.2.80", 80, False)
    assert (request.name, request.path, request.seconds) == ("check.example", "/generate_204", health().timeout)


def test_a_check_over_tls_asks_its_port() -> None:
    internet = Internet()
    internet.ask("https://check.example")
    (request,) = internet.asked
    assert (request.port, request.tls, request.path) == (443, True, "/")


def test_another_status_is_somebody_elses_answer() -> None:
    internet = Internet()
    internet.status = 200
    assert internet.ask() == Answer(0.25, genuine=False)


@pytest.mark.parametrize("failure", ["CertificateWrong", "TlsFailed", "NotHttp", "TooLarge"])
def test_what_no_web_server_would_say_is_somebody_elses_answer(failure: Failure) -> None:
    internet = Internet()
    internet.fails = failure
    assert internet.ask() == Answer(0.25, genuine=False)


@pytest.mark.parametrize("failure", ["TimedOut", "Unreachable", "NameUnknown"])
def test_nothing_is_no_answer(failure: Failure) -> None:
    internet = Internet()
    internet.fails = failure
    assert internet.ask().rtt is None


def test_an_address_is_looked_up_again_after_a_while_and_the_last_one_stays_while_nobody_knows_another() -> None:
    internet = Internet()
    internet.ask()
    internet.ask()
    assert internet.looked_up == ["check.example"]
    internet.now += RESOLVED
    internet.address = None
    internet.ask()
    assert len(internet.looked_up) == 2
    assert [request.address for request in internet.asked] == ["192.0.2.80"] * 3
