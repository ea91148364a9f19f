"""Whatever a provider answers, its adapter gives a good result or a ProviderError, and nothing else."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.base.web import Response
from reconciler.loops.exits.overlay import Held, Placed, overlay
from reconciler.loops.exits.providers.base import Gateway, ProviderError, Registration, checked
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.mullvad import Mullvad
from reconciler.loops.exits.providers.pia import Pia
from reconciler.loops.exits.providers.pia_account import Pinned
from schema.ip import Interface
from schema.plan import Peer, SecretRef
from tests.unit.reconciler.loops.exits.providers.server import (
    KEY,
    NOW,
    OURS,
    Server,
    added,
    device,
    granted,
    pia_document,
    public_pem,
    relay_document,
    said,
    signed_list,
    signer,
)  # fmt: skip
from tests.unit.reconciler.loops.exits.samples import an_exit

NEARLY = [
    KEY, f"{KEY[:-2]}9=", "192.0.2.1", "10.64.0.5", "10.64.0.5/24", "10.64.0.5/abc", "10.64.0.5/0", "010.64.0.5",
    "0.0.0.0", "FC00::5/128", "fc00:0::5", "fe80::1%wg0", "::ffff:10.0.0.1", "224.0.0.1", "127.0.0.1",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NEARLY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ACCESS = {"access_token": "t", "expiry": "2099-01-01T00:00:00+00:00"}
STATUS = st.sampled_from([200, 200, 200, 201, 204, 304, 400, 401, 404, 409, 429, 500])


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """A document with something else in one of its places, or without that place."""
    found = copy.deepcopy(value)
    where, key = [found], None
    for _ in range(draw(st.integers(1, 8))):
        here = where[-1]
        keys = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        where.append(here[key])
    if key is None:
        return draw(JSON)
    holder = where[-2]
    if isinstance(holder, dict) and draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = draw(JSON)
    return found


def fits(session: Registration) -> bool:
    """Whether the kernel can be given a tunnel of it, and takes its addresses as they are."""
    exit = an_exit()
    held = Held(exit, SecretRef(secret="exit:pia", fingerprint=KEY), [Placed(exit.slots[0], session, True)])
    peer = next(one for one in overlay([held]) if isinstance(one, Peer))
    host = (peer.endpoint or "").rpartition(":")[0].strip("[]")
    hosts = [address.partition("/") for address in session.addresses]
    texts = [host, *(address for address, _, _ in hosts), *session.dns]
    whole = all(length == str(ip_address(address).max_prefixlen) for address, _, length in hosts)
    return (
        bool(hosts)
        and whole
        and checked(session) == session
        and all(Interface.parse(text).address == text for text in texts)
    )


def tried(what: Any) -> Any:
    try:
        return what()
    except ProviderError:
        return None


ACCOUNT = b"user:password"
PIA_GATEWAY = Gateway("uk/a", "uk", "UK", "gb", ("192.0.2.21",), 1337, server_name="a", port_forward=True)
RELAY = Gateway("se/a", "se", "Sweden", "se", ("192.0.2.21",), 51820, public_key=KEY)


@settings(max_examples=300, deadline=None)
@given(
    spoilt(pia_document()), spoilt({"token": "t"}), spoilt(added()), spoilt(granted()), spoilt({"status": "OK"}), STATUS
)
def test_pia(document: Any, token: Any, key: Any, grant: Any, bound: Any, status: int) -> None:
    server = Server()
    server.on("/vpninfo/servers/v6", Response(200, {}, signed_list(document)))
    server.on("/api/client/v2/token", said({"token": "t"}), said(token, status), said({"token": "t"}))
    server.on("/addKey", said(key, status))
    server.on("/getSignature", said(grant, status))
    server.on("/bindPort", said(bound, status))
    with tempfile.TemporaryDirectory() as folder:
        pinned = Pinned(public_pem(signer()), "ca")
        pia = Pia(server, lambda: NOW, Cache(Path(folder)), lambda: ACCOUNT, lambda: pinned)
        found = tried(pia.discover)
        assert pia.known() == (found or [])
        assert found is None or all(gateway.addresses and 0 < gateway.port < 65536 for gateway in found)
        session = tried(lambda: pia.register(PIA_GATEWAY, OURS))
        assert session is None or fits(session)
        tunnel = Registration(PIA_GATEWAY, KEY, "192.0.2.21:1337", ("10.0.0.2/32",), (), server_vip="10.0.0.1")
        port = tried(lambda: pia.forward(tunnel, "wg0"))
        assert port is None or 0 < port.port < 65536


@settings(max_examples=300, deadline=None)
@given(
    spoilt(relay_document()),
    spoilt(ACCESS),
    spoilt(device()),
    STATUS,
)
def test_mullvad(document: Any, token: Any, registered: Any, status: int) -> None:
    server = Server()
    server.on("/public/relays/wireguard/v2/", said(document))
    server.on("/auth/v1/token", said(token, 200), said(ACCESS))
    server.on("/accounts/v1/devices", said(registered, status))
    with tempfile.TemporaryDirectory() as folder:
        mullvad = Mullvad(server, lambda: NOW, Cache(Path(folder)), lambda: b"1234567890")
        found = tried(mullvad.discover)
        assert mullvad.known() == (found or [])
        for _ in range(2):
            session = tried(lambda: mullvad.register(RELAY, OURS))
            assert session is None or (session.public_key == KEY and fits(session))
            if session:
                tried(partial(mullvad.renew, session, OURS))
                tried(partial(mullvad.release, session))


@given(st.binary(max_size=200))
def test_what_was_put_into_the_cache_is_not_trusted_either(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("list", "token", "port", "dedicated", "relays", "device"):
            (Path(folder) / f"{name}.json").write_bytes(data)
        pinned = Pinned(public_pem(signer()), "ca")
        cache = Cache(Path(folder))
        assert Pia(Server(), lambda: NOW, cache, lambda: ACCOUNT, lambda: pinned).known() == []
        assert Mullvad(Server(), lambda: NOW, cache, lambda: b"1").known() == []


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_nor_is_json_of_another_form(value: Any) -> None:
    session = Registration(PIA_GATEWAY, KEY, "192.0.2.21:1337", ("10.0.0.2/32",), (), server_vip="10.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        keys = (
            "body",
            "token",
            "since",
            "until",
            "payload",
            "signature",
            "ip",
            "cn",
            "id",
            "document",
            "etag",
            "pubkey",
        )
        for name in ("list", "token", "port", "dedicated", "relays", "device"):
            (Path(folder) / f"{name}.json").write_text(json.dumps(dict.fromkeys(keys, value)))
        pinned = Pinned(public_pem(signer()), "ca")
        pia = Pia(Server(), lambda: NOW, Cache(Path(folder)), lambda: b"user:password\ndip", lambda: pinned)
        assert pia.known() == []
        tried(lambda: pia.register(PIA_GATEWAY, OURS))
        tried(lambda: pia.forward(session, "wg0"))
        mullvad = Mullvad(Server(), lambda: NOW, Cache(Path(folder)), lambda: b"1")
        assert mullvad.known() == []
        tried(lambda: mullvad.register(RELAY, OURS))
        tried(lambda: mullvad.release(session))
