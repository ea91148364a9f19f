from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.base.web import Response
from reconciler.loops.exits.providers.base import Gateway, Provider, ProviderError
from reconciler.loops.exits.providers.build import AUTHORITY, PROVIDER_KEY, build
from schema.plan import SecretRef
from schema.plan.exits import Exit, HealthSettings, WrittenGateway
from tests.unit.reconciler.loops.exits.providers.server import (
    KEY,
    NOW,
    OURS,
    Server,
    pia_document,
    public_pem,
    said,
    signed_list,
    signer,
)  # fmt: skip

HEALTH = HealthSettings(
    interval=10, timeout=10, window=10, factor=10, strikes=3, loss=0.5, check="http://x/", expect=204
)


def exit_of(provider: str, **more: object) -> Exit:
    fields = {
        "name": "vpn", "provider": provider, "use": 1, "health": HEALTH, "hold": 60, "cool_down": 300,
        "on_switch": "move", "table": 59989, "slots": (), "mtu": 1420, "lans": (), "own": True, "ours": (), **more,
    }  # fmt: skip
    return Exit.model_validate(fields)


def credentials(fingerprint: str) -> SecretRef:
    return SecretRef(secret="login", fingerprint=fingerprint)


@pytest.fixture
def server() -> Server:
    found = Server()
    found.on("/vpninfo/servers/v6", Response(200, {}, signed_list(pia_document())))
    return found


def built(exit: Exit, folder: Path, server: Server) -> Provider:
    def secret(reference: SecretRef) -> bytes:
        return b"user:password"

    return build(exit, folder / "exits", folder / "pia", server, lambda: NOW, secret, lambda name: "192.0.2.9")


@pytest.mark.parametrize("provider", ["static", "site"])
def test_a_gateway_of_the_plan_is_one_of_the_provider(provider: str, tmp_path: Path, server: Server) -> None:
    gateway = WrittenGateway(name="vps", endpoint="vps.example:51820", public_key=KEY, addresses=("10.9.0.2/32",))
    [found] = built(exit_of(provider, gateways=(gateway,)), tmp_path, server).discover()
    assert (found.id, found.endpoint) == ("vps", "192.0.2.9:51820")


def test_pia_is_known_by_files_of_this_host_which_may_come_later(tmp_path: Path, server: Server) -> None:
    pia = built(exit_of("pia", credentials=credentials("a")), tmp_path, server)
    with pytest.raises(ProviderError, match=r"provider-key\.pem cannot be read: docs/exits\.md") as caught:
        pia.discover()
    assert caught.value.reason == "NotPinned" and pia.known() == []
    (tmp_path / "pia").mkdir()
    (tmp_path / "pia" / PROVIDER_KEY).write_text(public_pem(signer()))
    (tmp_path / "pia" / AUTHORITY).write_text("the authority")
    assert len(pia.discover()) == 4


def test_a_device_of_one_account_is_not_used_for_another(tmp_path: Path, server: Server) -> None:
    relay = Gateway("se/1", "se", "Malmö", "se", ("192.0.2.1",), 51820, public_key=KEY)
    folders = []
    for fingerprint in ("a", "a", "b"):
        mullvad = built(exit_of("mullvad", credentials=credentials(fingerprint)), tmp_path, server)
        server.on("/auth/v1/token", said({"access_token": OURS, "expiry": "2099-01-01T00:00:00+00:00"}))
        with pytest.raises(ProviderError):
            mullvad.register(relay, OURS)
        folders.append({path.name for path in (tmp_path / "exits").iterdir()})
    assert folders[0] == folders[1] and len(folders[2]) == 2
