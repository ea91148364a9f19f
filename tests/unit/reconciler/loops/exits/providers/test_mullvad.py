from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.base.web import Response
from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.mullvad import Mullvad
from tests.unit.reconciler.loops.exits.providers.server import (
    KEY,
    NOW,
    OURS,
    Server,
    device,
    relay_document,
    said,
)  # fmt: skip

ACCOUNT = "1234 5678 9012 3456"
LIST, TOKEN, DEVICES = "/public/relays/wireguard/v2/", "/auth/v1/token", "/accounts/v1/devices"
DEVICE = f"{DEVICES}/5f0c-11"


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.server = folder, Server()
        expiry = datetime.fromtimestamp(NOW + 86_400, UTC).isoformat()
        self.server.on(LIST, said(relay_document(), etag='"one"'))
        self.server.on(
            TOKEN, *(said({"access_token": f"mva_{name}", "expiry": expiry}) for name in ("first", "second"))
        )
        self.server.on(DEVICES, said(device(), 201))

    def mullvad(self) -> Mullvad:
        return Mullvad(self.server, lambda: NOW, Cache(self.folder), ACCOUNT.encode)

    def gateway(self) -> Gateway:
        return self.mullvad().discover()[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "mullvad")


def failure(call: Callable[[], object], reason: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        call()
    assert caught.value.reason == reason, caught.value.message
    for secret in (ACCOUNT, ACCOUNT.replace(" ", ""), "mva_first", "mva_second", OURS):
        assert secret not in str(caught.value)
    return caught.value


def test_relays_that_are_active_are_gateways_with_their_keys(world: World) -> None:
    gateways = world.mullvad().discover()
    assert [g.id for g in gateways] == ["se-mma/se-mma-wg-001", "se-mma/se-mma-wg-002"]
    assert gateways[0] == Gateway(
        id="se-mma/se-mma-wg-001", region="se-mma", name="Malmö", country="se",
        addresses=("203.0.113.66", "2001:db8:66::f001"), port=51820, weight=100, public_key=KEY,
    )  # fmt: skip


def test_a_list_that_has_not_changed_is_not_sent_again(world: World) -> None:
    gateways = world.mullvad().discover()
    world.server.on(LIST, Response(304, {}, b""))
    assert world.mullvad().discover() == gateways
    assert [dict(request.headers) for request in world.server.asked] == [{}, {"If-None-Match": '"one"'}]


def test_a_list_that_was_good_is_there_without_network(world: World) -> None:
    gateways = world.mullvad().discover()
    world.server.answers.clear()
    assert world.mullvad().known() == gateways
    failure(world.mullvad().discover, "Unreachable")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"wireguard": {}, "locations": {}}'])
def test_garbage_is_refused_and_the_last_good_list_kept(world: World, body: bytes) -> None:
    gateways = world.mullvad().discover()
    world.server.on(LIST, Response(200, {}, body))
    failure(world.mullvad().discover, "ListUnreadable")
    assert world.mullvad().known() == gateways


def test_a_device_is_registered_once_and_good_at_every_relay(world: World) -> None:
    first, second = world.mullvad().discover()
    session = world.mullvad().register(first, OURS)
    asked = len(world.server.asked)
    other = world.mullvad().register(second, OURS)
    assert len(world.server.asked) == asked
    assert session.addresses == other.addresses == ("10.66.3.4/32", "fc00:bbbb:bbbb:bb01::3:304/128")
    assert (session.endpoint, session.public_key) == ("203.0.113.66:51820", KEY)
    assert session.dns == ("10.64.0.1", "fc00:bbbb:bbbb:bb01::1")


def test_the_account_number_gives_a_token_that_registers_the_device(world: World) -> None:
    world.mullvad().register(world.gateway(), OURS)
    token, registering = world.server.asked[-2:]
    assert json.loads(token.body) == {"account_number": ACCOUNT.replace(" ", "")}
    assert registering.headers["Authorization"] == "Bearer mva_first"
    assert json.loads(registering.body) == {"pubkey": OURS, "hijack_dns": False}


def test_too_many_devices_is_said_with_what_to_do(world: World) -> None:
    gateway = world.gateway()
    world.server.on(DEVICES, said({"code": "MAX_DEVICES_REACHED", "detail": "…"}, 400))
    assert (
        "mullvad.net/account/devices" in failure(lambda: world.mullvad().register(gateway, OURS), "DeviceLimit").message
    )


def test_a_device_that_was_lost_here_is_found_again_there(world: World) -> None:
    gateway = world.gateway()
    world.server.on(DEVICES, said({"code": "PUBKEY_IN_USE"}, 400), said([device(KEY), device(OURS)]))
    assert world.mullvad().register(gateway, OURS).addresses[0] == "10.66.3.4/32"


def test_an_unknown_account_is_said_to_be_so(world: World) -> None:
    gateway = world.gateway()
    world.server.on(TOKEN, said({"code": "INVALID_ACCOUNT", "detail": ACCOUNT}, 400))
    failure(lambda: world.mullvad().register(gateway, OURS), "CredentialsRefused")


def test_a_token_that_has_expired_is_replaced(world: World) -> None:
    gateway = world.gateway()
    world.server.on(DEVICES, said({"code": "INVALID_ACCESS_TOKEN"}, 401), said(device(), 201))
    world.mullvad().register(gateway, OURS)
    assert world.server.asked[-1].headers["Authorization"] == "Bearer mva_second"


def test_renewing_asks_whether_the_device_is_there_and_makes_it_again(world: World) -> None:
    session = world.mullvad().register(world.gateway(), OURS)
    world.server.on(DEVICE, said(device()), said({"code": "DEVICE_NOT_FOUND"}, 404))
    world.mullvad().renew(session, OURS)
    assert world.server.paths().count(DEVICES) == 1
    assert world.mullvad().renew(session, OURS) == session
    assert world.server.paths().count(DEVICES) == 2


def test_releasing_removes_the_device_once(world: World) -> None:
    session = world.mullvad().register(world.gateway(), OURS)
    world.server.on(DEVICE, Response(204, {}, b""))
    world.mullvad().release(session)
    asked = len(world.server.asked)
    assert (world.server.asked[-1].method, world.server.asked[-1].path) == ("DELETE", DEVICE)
    world.mullvad().release(session)
    assert len(world.server.asked) == asked


def test_an_answer_of_another_form_is_refused(world: World) -> None:
    gateway = world.gateway()
    world.server.on(DEVICES, said({**device(), "ipv4_address": "none"}, 201))
    failure(lambda: world.mullvad().register(gateway, OURS), "AnswerUnreadable")
    world.server.on(DEVICES, Response(500, {}, b"oops"))
    failure(lambda: world.mullvad().register(gateway, OURS), "HttpError")
