"""PIA: a signed list, a token for a day, a key that is added at each server, and a port on request.

The protocol is that of github.com/pia-foss/manual-connections.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reconciler.base.web import Http, Request, Response
from reconciler.loops.exits.providers import pia_list
from reconciler.loops.exits.providers.asking import (
    LIST_LIMIT,
    LIST_SECONDS,
    ask,
    clean,
    http_error,
    is_address,
    is_key,
    is_name,
    is_port,
    opened,
    parsed,
    session_of,
    unreadable,
    words,
)
from reconciler.loops.exits.providers.base import Clock, Credentials, Gateway, PortForward, ProviderError, Registration
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.pia_account import API_NAME, TOKEN_LIFE, Pinned, basic, new_token, token_refused
from reconciler.loops.exits.providers.pia_port import ForwardedPort
from reconciler.loops.exits.providers.token import Token

LIST_NAME, LIST_PATH = "serverlist.piaservers.net", "/vpninfo/servers/v6"
OWN = "dedicated/"
"""The region of a dedicated IP, in its id."""


class Pia:
    """One account. `credentials` contain `user:password`, and on a second line the token of a dedicated IP.

    The pinned files are read when they are needed, so that adding a missing file solves the problem.
    """

    def __init__(
        self,
        http: Http,
        clock: Clock,
        cache: Cache,
        credentials: Credentials,
        pinned: Callable[[], Pinned],
    ) -> None:
        """`pinned` raises ProviderError."""
        self._http, self._clock, self._cache = http, clock, cache
        self._credentials, self._pinned = credentials, pinned
        self._token = Token(cache, clock, self._new_token)
        self._ports = ForwardedPort(http, clock, cache, lambda: pinned().ca, self._token)

    # The list

    def known(self) -> list[Gateway]:
        try:
            servers, (_, own) = self._kept(), self._account()
        except ProviderError:
            return []
        if own is None:
            return list(servers.gateways)
        kept = self._cache.load("dedicated")
        return [self._own(kept, servers)] if _is_own(kept) else []

    def _kept(self) -> pia_list.Servers:
        # The signature is checked again: write access to the cache must not decide where the traffic goes.
        return pia_list.read(str(self._cache.load("list").get("body", "")).encode(), self._pinned().provider_key)

    def _account(self) -> tuple[str, str | None]:
        """User and password, and the token of a dedicated IP."""
        lines = opened(self._credentials, "PIA's user and password").split("\n")
        return lines[0].strip(), lines[1].strip() if len(lines) > 1 else None

    def discover(self) -> list[Gateway]:
        request = Request(LIST_NAME, LIST_PATH, seconds=LIST_SECONDS, limit=LIST_LIMIT)
        response = ask(self._http, request)
        if response.status != 200:
            raise http_error(request, response)
        servers = pia_list.read(response.body, self._pinned().provider_key)
        self._cache.save("list", {"body": response.body.decode()})
        _, own = self._account()
        return list(servers.gateways) if own is None else [self._dedicated(servers, own)]

    def _dedicated(self, servers: pia_list.Servers, own: str) -> Gateway:
        body = json.dumps({"tokens": [own]}).encode()

        def build(token: str) -> Request:
            headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
            path = "/api/client/v2/dedicated_ip"
            return Request(API_NAME, path, method="POST", headers=headers, body=body)

        response = self._token.ask(self._http, build, token_refused)
        if response.status != 200:
            raise http_error(build(""), response, [own])
        found = parsed(build(""), response)
        first = found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}
        if first.get("status") != "active":
            said = clean(str(first.get("status", "nothing")), [own])
            raise ProviderError("Refused", f"the dedicated IP is not active: the provider says {said!r} of its token")
        kept = {name: first.get(name) for name in ("ip", "cn", "id")}
        if not _is_own(kept):
            raise unreadable(build(""))
        self._cache.save("dedicated", kept)
        return self._own(kept, servers)

    def _own(self, kept: dict[str, Any], servers: pia_list.Servers) -> Gateway:
        """A dedicated IP as a gateway: its own server, in a region of the list."""
        region = next((gateway for gateway in servers.gateways if gateway.region == kept["id"]), None)
        named = region or replace(
            servers.gateways[0], region=kept["id"], name=kept["id"], country="", port_forward=False
        )
        return replace(named, id=f"{OWN}{kept['cn']}", addresses=(kept["ip"],), server_name=kept["cn"])

    def _new_token(self) -> tuple[str, float]:
        try:
            metas = self._kept().metas
        except ProviderError:
            metas = ()
        account, _ = self._account()
        return new_token(self._http, self._pinned().ca, metas, account), self._clock() + TOKEN_LIFE

    # A key at a server

    def register(self, gateway: Gateway, public_key: str) -> Registration:
        if gateway.server_name is None:
            raise ProviderError("Refused", f"{gateway.id} has no name to check its certificate by")
        request = Request(
            gateway.server_name,
            "/addKey",
            address=gateway.addresses[0],
            port=gateway.port,
            query={"pubkey": public_key},
            ca=self._pinned().ca,
        )
        if gateway.id.startswith(OWN):
            own = self._account()[1] or ""
            headers = {"Authorization": basic(f"dedicated_ip_{own}", gateway.addresses[0])}
            request = replace(request, headers=headers)
            response = ask(self._http, request)
            if token_refused(response):
                raise ProviderError("CredentialsRefused", f"{request.title} refuses the token of the dedicated IP")
            return self._session(gateway, public_key, request, response, [own])
        used = []

        def build(token: str) -> Request:
            used.append(token)
            return replace(request, query={"pt": token, "pubkey": public_key})

        response = self._token.ask(self._http, build, token_refused)
        return self._session(gateway, public_key, request, response, used)

    def _session(
        self, gateway: Gateway, public_key: str, request: Request, response: Response, secrets: list[str]
    ) -> Registration:
        if response.status != 200:
            raise http_error(request, response, secrets)
        found = parsed(request, response)
        if not isinstance(found, dict):
            raise unreadable(request)
        if found.get("status") != "OK":
            said = words(response, [*secrets, public_key]) or "it gives no reason"
            raise ProviderError("Refused", f"{gateway.id} does not take our key: {said}")
        dns = found.get("dns_servers") or []
        good = (
            is_key(found.get("server_key"))
            and is_port(found.get("server_port"))
            and is_address(found.get("peer_ip"))
            and isinstance(dns, list)
            and all(is_address(server) for server in dns)
            and found.get("peer_pubkey", public_key) == public_key
        )
        if not good:
            raise unreadable(request)
        vip = found.get("server_vip")
        return session_of(
            Registration(
                gateway=gateway,
                public_key=found["server_key"],
                endpoint=replace(gateway, port=found["server_port"]).endpoint,
                addresses=(found["peer_ip"],),
                dns=tuple(dns),
                server_vip=vip if is_address(vip) else None,
            )
        )

    def renew(self, session: Registration, public_key: str) -> Registration:
        """Register again: a server forgets keys when it restarts, or after hours without traffic."""
        return self.register(session.gateway, public_key)

    def release(self, session: Registration) -> None:
        """Nothing to do: a server forgets an unused key."""

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        return self._ports.forward(session, dev)


def _is_own(kept: dict[str, Any]) -> bool:
    return is_address(kept.get("ip")) and all(is_name(kept.get(name)) for name in ("cn", "id"))
