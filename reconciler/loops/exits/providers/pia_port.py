"""PIA's forwarded ports: a signed payload names a port for about two months, and is bound again every 15 minutes.

Requests go through the tunnel, to the server's own address there.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.base.web import Http, Request
from reconciler.loops.exits.providers.asking import ask, http_error, is_port, moment, parsed, unreadable, words
from reconciler.loops.exits.providers.base import Clock, PortForward, ProviderError, Registration
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.pia_account import status_of, token_refused
from reconciler.loops.exits.providers.token import Token

PORT = 19999
AGAIN = 900.0
"""In seconds; a server forgets a port after about twenty minutes."""
REFUSALS = frozenset({400, 401, 403, 409, 410, 422})
"""Statuses that reject the payload itself; with any other status, the payload stays valid."""
MARGIN = 3600.0
"""A payload is not used in its last hour, in seconds, because its port would soon be gone."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A payload with its signature, and its decoded content."""

    payload: str
    signature: str
    port: int
    expires: float

    @classmethod
    def of(cls, payload: object, signature: object) -> Grant | None:
        """Decode a payload; None if it is invalid."""
        if not isinstance(payload, str) or not isinstance(signature, str):
            return None
        try:
            inside = json.loads(b64decode(payload))
            expires, port = moment(inside["expires_at"]), inside["port"]
        except (ValueError, TypeError, KeyError):
            return None
        return cls(payload, signature, port, expires) if is_port(port) else None


class ForwardedPort:
    """The port of one account. A payload is valid at every server of the provider."""

    def __init__(self, http: Http, clock: Clock, cache: Cache, ca: Callable[[], str], token: Token) -> None:
        self._http, self._clock, self._cache, self._ca, self._token = http, clock, cache, ca, token

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        """The port, bound for another 15 minutes; None if the server forwards none. Raises ProviderError."""
        if not session.gateway.port_forward or session.server_vip is None:
            return None
        grant = self._kept()
        if grant is None or not self._bind(session, dev, grant, last=False):
            grant = self._fetch(session, dev)
            self._bind(session, dev, grant, last=True)
        return PortForward(grant.port, grant.expires, self._clock() + AGAIN)

    def _kept(self) -> Grant | None:
        kept = self._cache.load("port")
        grant = Grant.of(kept.get("payload"), kept.get("signature"))
        return grant if grant and self._clock() < grant.expires - MARGIN else None

    def _request(self, session: Registration, dev: str, path: str, query: dict[str, str]) -> Request:
        name = session.gateway.server_name or ""
        return Request(name, path, session.server_vip, PORT, query=query, ca=self._ca(), dev=dev)

    def _fetch(self, session: Registration, dev: str) -> Grant:
        request = self._request(session, dev, "/getSignature", {})
        used = []

        def build(token: str) -> Request:
            used.append(token)
            return self._request(session, dev, request.path, {"token": token})

        response = self._token.ask(self._http, build, token_refused)
        if response.status != 200:
            raise http_error(request, response, used)
        found = parsed(request, response)
        if not isinstance(found, dict) or found.get("status") != "OK":
            said = words(response, used) or "no reason"
            raise ProviderError("PortRefused", f"{session.gateway.id} gives no port: {said}")
        grant = Grant.of(found.get("payload"), found.get("signature"))
        if grant is None:
            raise unreadable(request)
        self._cache.save("port", {"payload": grant.payload, "signature": grant.signature})
        return grant

    def _bind(self, session: Registration, dev: str, grant: Grant, *, last: bool) -> bool:
        """Whether the server forwards the port to us. If it is taken there, the port is given up for another."""
        secrets = [grant.payload, grant.signature]
        query = {"payload": grant.payload, "signature": grant.signature}
        request = self._request(session, dev, "/bindPort", query)
        response = ask(self._http, request)
        said = status_of(response)
        if response.status == 200 and said == "OK":
            return True
        if response.status == 200 and said != "ERROR":
            raise unreadable(request)
        if response.status != 200 and response.status not in REFUSALS:
            raise http_error(request, response, secrets)
        self._cache.drop("port")
        if last:
            said = words(response, secrets) or f"HTTP {response.status}"
            raise ProviderError("PortRefused", f"{session.gateway.id} does not bind port {grant.port}: {said}")
        return False
