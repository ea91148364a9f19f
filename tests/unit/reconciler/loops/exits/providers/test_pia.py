from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from reconciler.base.web import Request, Response, WebError
from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.pia import Pia
from reconciler.loops.exits.providers.pia_account import Pinned
from tests.unit.reconciler.loops.exits.providers.server import (
    KEY,
    NOW,
    OURS,
    Server,
    added,
    granted,
    pia_document,
    public_pem,
    said,
    signed_list,
    signer,
)  # fmt: skip

USER, PASSWORD, DIP = "p1234567", "correct horse+battery", "DIP1a2b3c4d5e6f"
TOKENS = ["first-token-" + "a" * 20, "second-token-" + "b" * 20]
PINNED = Pinned(provider_key=public_pem(signer()), ca="the authority")
LIST, TOKEN, ADD = "/vpninfo/servers/v6", "/api/client/v2/token", "/addKey"


class World:
    """A provider, its server, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOW
        self.server = Server()
        self.server.on(LIST, Response(200, {}, signed_list(pia_document())))
        self.server.on(TOKEN, *(said({"token": token}) for token in TOKENS))
        self.server.on(ADD, said(added()))
        self.account = f"{USER}:{PASSWORD}\n"

    def pia(self) -> Pia:
        """The provider of an agent that has just started."""
        return Pia(self.server, lambda: self.now, Cache(self.folder), self.account.encode, lambda: PINNED)

    def gateway(self, name: str = "uk/uk401") -> Gateway:
        return next(gateway for gateway in self.pia().discover() if gateway.id == name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "pia")


def failure(call: Callable[[], object], *reasons: str) -> ProviderError:
    """The error of a call; no secret stands in it."""
    with pytest.raises(ProviderError) as caught:
        call()
    error = caught.value
    assert error.reason in reasons, error.message
    for secret in (USER, PASSWORD, DIP, *TOKENS, OURS):
        assert secret not in str(error) and secret not in repr(error)
    return error


# The list


def test_every_server_of_every_region_that_is_online_is_a_gateway(world: World) -> None:
    gateways = world.pia().discover()
    assert [g.id for g in gateways] == ["ohio/ohio401", "ohio/ohio402", "uk/uk401", "uk/uk402"]
    assert gateways[2] == Gateway(
        id="uk/uk401", region="uk", name="Uk", country="gb", addresses=("192.0.2.21",), port=1337,
        server_name="uk401", port_forward=True,
    )  # fmt: skip
    assert not gateways[0].port_forward


def test_a_list_that_was_good_is_there_for_a_start_without_network(world: World) -> None:
    assert world.pia().known() == []
    gateways = world.pia().discover()
    world.server.answers.clear()
    assert world.pia().known() == gateways
    failure(world.pia().discover, "Unreachable")


def test_a_list_of_another_signer_is_refused_and_the_last_good_one_kept(world: World) -> None:
    gateways = world.pia().discover()
    world.server.on(LIST, Response(200, {}, signed_list(pia_document(), signer(1))))
    failure(world.pia().discover, "SignatureWrong")
    assert world.pia().known() == gateways


def test_a_list_that_somebody_put_into_the_cache_is_not_believed(world: World) -> None:
    Cache(world.folder).save("list", {"body": signed_list(pia_document(), signer(1)).decode()})
    assert world.pia().known() == []


def test_one_changed_byte_spoils_the_list(world: World) -> None:
    body = signed_list(pia_document()).replace(b"192.0.2.21", b"192.0.2.22")
    world.server.on(LIST, Response(200, {}, body))
    failure(world.pia().discover, "SignatureWrong")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ListUnreadable"),
        (b"<html>sign in</html>", "ListUnreadable"),
        (b"\xff\xfe garbage", "ListUnreadable"),
        (b'{"regions": []}', "SignatureWrong"),
        (b'{"regions": []}\n\nnot base64!', "SignatureWrong"),
        (signed_list({"groups": {}, "regions": []}), "ListUnreadable"),
        (signed_list({"other": 1}), "ListUnreadable"),
        (signed_list({"groups": {}, "regions": [{"servers": {"wg": [{"ip": "192.0.2.1"}]}}]}), "ListUnreadable"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_with_its_reason(world: World, body: bytes, reason: str) -> None:
    world.server.on(LIST, Response(200, {}, body))
    failure(world.pia().discover, reason)


# The token


def test_a_token_is_kept_until_an_hour_before_its_day_is_over(world: World) -> None:
    gateway = world.gateway()
    world.pia().register(gateway, OURS)
    world.now += 22.9 * 3600
    world.pia().register(gateway, OURS)
    assert world.server.paths().count(TOKEN) == 1
    world.now += 0.2 * 3600
    world.pia().register(gateway, OURS)
    assert world.server.paths().count(TOKEN) == 2


def test_the_token_is_asked_for_by_form_and_kept_where_only_the_agent_reads(world: World) -> None:
    world.pia().register(world.gateway(), OURS)
    request = next(request for request in world.server.asked if request.path == TOKEN)
    assert (request.method, request.name) == ("POST", "www.privateinternetaccess.com")
    assert parse_qs(request.body.decode()) == {"username": [USER], "password": [PASSWORD]}
    assert not any(secret in repr(request) for secret in (USER, PASSWORD))
    modes = {path.name: path.stat().st_mode & 0o777 for path in world.folder.iterdir()}
    assert modes == {"list.json": 0o600, "token.json": 0o600}
    assert world.folder.stat().st_mode & 0o777 == 0o700


def test_a_clock_that_was_set_back_makes_the_token_doubtful(world: World) -> None:
    gateway = world.gateway()
    world.pia().register(gateway, OURS)
    world.now -= 60
    world.pia().register(gateway, OURS)
    assert world.server.paths().count(TOKEN) == 2


def test_where_the_web_site_is_blocked_servers_of_the_list_give_the_token_by_their_address(world: World) -> None:
    gateway = world.gateway()
    del world.server.answers[TOKEN]
    world.server.on("/authv3/generateToken", said({"status": "OK", "token": TOKENS[1]}))
    world.pia().register(gateway, OURS)
    request = next(request for request in world.server.asked if request.path == "/authv3/generateToken")
    assert (request.name, request.address, request.ca) == ("uk403", "198.51.100.23", "the authority")
    assert b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode() == f"{USER}:{PASSWORD}"


@pytest.mark.parametrize(
    "answer",
    [said({"message": f"no {PASSWORD}"}, 401), said({"status": "ERROR", "message": "Login failed!"}), said({}, 403)],
)
def test_a_wrong_password_is_said_to_be_so_and_not_tried_elsewhere(world: World, answer: Response) -> None:
    gateway = world.gateway()
    world.server.on(TOKEN, answer)
    failure(lambda: world.pia().register(gateway, OURS), "CredentialsRefused")
    assert "/authv3/generateToken" not in world.server.paths()


def test_an_expired_token_is_replaced_without_anybody_noticing(world: World) -> None:
    gateway = world.gateway()
    world.pia().register(gateway, OURS)
    world.server.on(ADD, said({"status": "ERROR", "message": "Login failed!"}), said(added()))
    assert world.pia().renew(world.pia().register(gateway, OURS), OURS).public_key == KEY
    sent = [request.query["pt"] for request in world.server.asked if request.path == ADD]
    assert sent == [TOKENS[0], TOKENS[0], TOKENS[1], TOKENS[1]]


def test_a_new_token_that_is_refused_too_is_an_error_that_says_so(world: World) -> None:
    gateway = world.gateway()
    world.server.on(ADD, said({"status": "ERROR", "message": f"token {TOKENS[1]} expired"}, 401))
    failure(lambda: world.pia().register(gateway, OURS), "TokenExpired")


@pytest.mark.parametrize("text", ["only-a-user", "", ":", "user:"])
def test_credentials_in_another_form_are_said_to_be_so(world: World, text: str) -> None:
    gateway = world.gateway()
    pia = Pia(world.server, lambda: NOW, Cache(world.folder), text.encode, lambda: PINNED)
    failure(lambda: pia.register(gateway, OURS), "CredentialsUnreadable")


def test_credentials_that_cannot_be_opened_are_said_to_be_so(world: World) -> None:
    def locked() -> bytes:
        raise LookupError(PASSWORD)

    gateway = world.gateway()
    pia = Pia(world.server, lambda: NOW, Cache(world.folder), locked, lambda: PINNED)
    failure(lambda: pia.register(gateway, OURS), "CredentialsUnreadable")


# A key at a server


def test_registering_asks_the_server_itself_by_its_certificates_name(world: World) -> None:
    session = world.pia().register(world.gateway(), OURS)
    request = world.server.asked[-1]
    assert (request.name, request.address, request.port, request.ca) == ("uk401", "192.0.2.21", 1337, "the authority")
    assert request.query == {"pt": TOKENS[0], "pubkey": OURS}
    assert TOKENS[0] not in repr(request)
    assert (session.public_key, session.endpoint) == (KEY, "192.0.2.21:1337")
    assert (session.addresses, session.dns) == (("10.4.137.9/32",), ("10.0.0.243", "10.0.0.242"))
    assert (session.keepalive, session.server_vip) == (15, "10.4.128.1")


def test_a_refusal_is_told_in_the_servers_words_without_what_was_sent(world: World) -> None:
    gateway = world.gateway()
    world.server.on(ADD, said({"status": "ERROR", "message": f"no room for {OURS} of\n{TOKENS[0]}"}))
    # The word that a token begins with is one of those by which servers refuse tokens.
    error = failure(lambda: world.pia().register(gateway, OURS), "Refused", "TokenExpired")
    assert error.reason == "Refused" and error.message == "uk/uk401 does not take our key: no room for … of …"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"server_key": "short"}, "AnswerUnreadable"),
        ({"server_port": "1337"}, "AnswerUnreadable"),
        ({"peer_ip": "10.4.137"}, "AnswerUnreadable"),
        ({"dns_servers": ["; rm -rf /"]}, "AnswerUnreadable"),
        ({"peer_pubkey": KEY}, "AnswerUnreadable"),
        ({"status": "MAYBE"}, "Refused"),
    ],
)
def test_an_answer_of_another_form_is_refused(world: World, change: dict[str, object], reason: str) -> None:
    gateway = world.gateway()
    world.server.on(ADD, said({**added(), **change}))
    failure(lambda: world.pia().register(gateway, OURS), reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(500, {}, b"<html>oops</html>"), "HttpError"),
        (Response(302, {"location": "https://portal.example/"}, b""), "HttpError"),
        (Response(200, {}, b"<html>portal</html>"), "AnswerUnreadable"),
        (Response(200, {}, b"[1]"), "AnswerUnreadable"),
        (Response(200, {}, b"[" * 100_000), "AnswerUnreadable"),
        (WebError("TimedOut", "uk401 was silent for 10 s"), "TimedOut"),
        (WebError("TooLarge", "uk401 sends too much"), "TooLarge"),
        (WebError("CertificateWrong", "another name"), "CertificateWrong"),
        (WebError("ClockWrong", "from tomorrow on"), "ClockWrong"),
    ],
)
def test_every_fault_of_a_server_has_its_reason(world: World, answer: Response | WebError, reason: str) -> None:
    gateway = world.gateway()
    world.server.on(ADD, answer)
    failure(lambda: world.pia().register(gateway, OURS), reason)


def test_a_provider_that_is_busy_says_when_to_come_back(world: World) -> None:
    gateway = world.gateway()
    world.server.on(TOKEN, said({"message": "Too many requests"}, 429, **{"retry-after": "120"}))
    assert failure(lambda: world.pia().register(gateway, OURS), "HttpError").retry_after == 120


# A dedicated IP


@pytest.fixture
def own(world: World) -> World:
    world.account += f"{DIP}\n"
    found = {
        "status": "active",
        "ip": "192.0.2.99",
        "cn": "uk499",
        "id": "uk",
        "dip_expire": NOW + 9e6,
        "dip_token": DIP,
    }
    world.server.on("/api/client/v2/dedicated_ip", said([found]))
    return world


def test_a_dedicated_ip_is_the_one_gateway(own: World) -> None:
    [gateway] = own.pia().discover()
    assert (gateway.id, gateway.region, gateway.country) == ("dedicated/uk499", "uk", "gb")
    assert (gateway.addresses, gateway.server_name, gateway.port) == (("192.0.2.99",), "uk499", 1337)
    own.server.answers.clear()
    assert own.pia().known() == [gateway]
    assert not any(DIP in path.read_text() for path in own.folder.iterdir())


def test_its_key_is_added_with_its_own_token_and_no_other(own: World) -> None:
    [gateway] = own.pia().discover()
    own.pia().register(gateway, OURS)
    request = own.server.asked[-1]
    assert request.query == {"pubkey": OURS}
    assert (
        b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode() == f"dedicated_ip_{DIP}:192.0.2.99"
    )


def test_a_dedicated_ip_that_has_ended_is_said_to_be_so(own: World) -> None:
    own.server.on("/api/client/v2/dedicated_ip", said([{"status": "expired"}]))
    assert "'expired'" in failure(own.pia().discover, "Refused").message


def test_the_server_refusing_its_token_is_no_expired_account_token(own: World) -> None:
    [gateway] = own.pia().discover()
    own.server.on(ADD, said({"status": "ERROR", "message": f"{DIP} unknown"}, 401))
    failure(lambda: own.pia().register(gateway, OURS), "CredentialsRefused")


# A port


@pytest.fixture
def forwarding(world: World) -> World:
    world.server.on("/getSignature", said(granted()))
    world.server.on("/bindPort", said({"status": "OK", "message": "port scheduled for add"}))
    return world


def test_a_port_is_asked_for_within_the_tunnel_and_bound_again_in_a_quarter_of_an_hour(forwarding: World) -> None:
    pia = forwarding.pia()
    session = pia.register(forwarding.gateway(), OURS)
    port = pia.forward(session, "wg-exit0")
    assert port is not None and (port.port, port.again) == (40123, NOW + 900)
    for request in forwarding.server.asked[-2:]:
        assert (request.name, request.address, request.port, request.dev) == ("uk401", "10.4.128.1", 19999, "wg-exit0")


def test_the_payload_outlives_a_restart_and_another_gateway(forwarding: World) -> None:
    session = forwarding.pia().register(forwarding.gateway(), OURS)
    first = forwarding.pia().forward(session, "wg-exit0")
    other = forwarding.pia().register(forwarding.gateway("uk/uk402"), OURS)
    assert forwarding.pia().forward(other, "wg-exit1") == first
    assert forwarding.server.paths().count("/getSignature") == 1


def test_a_payload_at_its_end_is_replaced(forwarding: World) -> None:
    session = forwarding.pia().register(forwarding.gateway(), OURS)
    forwarding.pia().forward(session, "wg-exit0")
    forwarding.now += 60 * 86_400 - 1800
    forwarding.server.on("/getSignature", said(granted(50001, forwarding.now + 9e6)))
    port = forwarding.pia().forward(session, "wg-exit0")
    assert port is not None and port.port == 50001


@pytest.mark.parametrize(
    "answer", [said({"message": "port 40123 is busy"}, 409), said({"status": "ERROR", "message": "bad payload"})]
)
def test_a_port_that_is_busy_is_given_up_for_another(forwarding: World, answer: Response) -> None:
    session = forwarding.pia().register(forwarding.gateway(), OURS)
    forwarding.pia().forward(session, "wg-exit0")
    forwarding.server.on("/bindPort", answer, said({"status": "OK"}))
    forwarding.server.on("/getSignature", said(granted(50002)))
    port = forwarding.pia().forward(session, "wg-exit0")
    assert port is not None and port.port == 50002


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said({"message": "slow down"}, 429, **{"retry-after": "30"}), "HttpError"),
        (said({"message": "no such page"}, 404), "HttpError"),
        (said({}, 503), "HttpError"),
        (Response(302, {"location": "https://portal.example/"}, b""), "HttpError"),
        (Response(200, {}, b"<html>portal</html>"), "AnswerUnreadable"),
    ],
)
def test_a_payload_outlives_what_says_nothing_of_it(forwarding: World, answer: Response, reason: str) -> None:
    session = forwarding.pia().register(forwarding.gateway(), OURS)
    first = forwarding.pia().forward(session, "wg-exit0")
    forwarding.server.on("/bindPort", answer, said({"status": "OK"}))
    failure(lambda: forwarding.pia().forward(session, "wg-exit0"), reason)
    assert forwarding.pia().forward(session, "wg-exit0") == first
    assert forwarding.server.paths().count("/getSignature") == 1


@pytest.mark.parametrize("status", [200, 429])
def test_what_is_said_of_a_port_is_shown_without_the_token(forwarding: World, status: int) -> None:
    forwarding.server.on(TOKEN, said({"token": "a-short-one"}))
    session = forwarding.pia().register(forwarding.gateway(), OURS)

    def echo(request: Request) -> Response:
        return said({"status": "SORRY", "message": f"not with {request.query['token']}"}, status)

    forwarding.server.on("/getSignature", echo)
    error = failure(
        lambda: forwarding.pia().forward(session, "wg-exit0"), "PortRefused" if status == 200 else "HttpError"
    )
    assert "not with …" in error.message


def test_what_is_said_of_binding_is_shown_without_the_payload(forwarding: World) -> None:
    session = forwarding.pia().register(forwarding.gateway(), OURS)
    forwarding.server.on("/bindPort", lambda request: said({"message": request.query["signature"]}, 429))
    assert "…" in failure(lambda: forwarding.pia().forward(session, "wg-exit0"), "HttpError").message


def test_a_new_port_that_is_busy_too_is_an_error(forwarding: World) -> None:
    session = forwarding.pia().register(forwarding.gateway(), OURS)
    forwarding.server.on("/bindPort", said({"message": "port 40123 is busy"}, 409))
    error = failure(lambda: forwarding.pia().forward(session, "wg-exit0"), "PortRefused")
    assert error.message == "uk/uk401 does not bind port 40123: port 40123 is busy"


def test_a_region_that_forwards_no_ports_is_not_asked(forwarding: World) -> None:
    session = forwarding.pia().register(forwarding.gateway("ohio/ohio401"), OURS)
    assert forwarding.pia().forward(session, "wg-exit0") is None
    assert "/getSignature" not in forwarding.server.paths()
