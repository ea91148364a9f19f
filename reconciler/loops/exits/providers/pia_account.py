"""PIA's account: the pinned files, and the two ways to get a token."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from reconciler.base.web import Http, Request, Response
from reconciler.loops.exits.providers.asking import ask, http_error, parsed, unreadable, words
from reconciler.loops.exits.providers.base import ProviderError
from reconciler.loops.exits.providers.pia_list import Meta

TOKEN_LIFE = 24 * 3600.0
TOKEN_SECONDS = 6.0
METAS = 2
"""Number of servers that are asked for a token by address if the web site gives none."""


API_NAME = "www.privateinternetaccess.com"


@dataclass(frozen=True, slots=True)
class Pinned:
    """PIA's trust anchors on this host."""

    provider_key: str
    """The public key in PEM that signs the list."""
    ca: str
    """The authority of the servers' certificates, in PEM (`ca.rsa.4096.crt`)."""


def new_token(http: Http, ca: str, metas: Sequence[Meta], account: str) -> str:
    """A token for an account, `user:password`: from the web site, otherwise from servers of the list.

    The servers are reached by address, so this works without DNS and if the web site is blocked. Raises ProviderError.
    """
    user, _, password = account.partition(":")
    if not user or not password:
        raise ProviderError("CredentialsUnreadable", "PIA's credentials are not written as user:password")
    by_name = Request(
        API_NAME,
        "/api/client/v2/token",
        method="POST",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode({"username": user, "password": password}).encode(),
        seconds=TOKEN_SECONDS,
    )
    by_address = [
        Request(
            meta.name,
            "/authv3/generateToken",
            address=meta.address,
            headers={"Authorization": basic(user, password)},
            ca=ca,
            seconds=TOKEN_SECONDS,
        )
        for meta in metas[:METAS]
    ]
    first: ProviderError | None = None
    for request in (by_name, *by_address):
        try:
            return _token(http, request, [user, password])
        except ProviderError as error:
            first = first or error
            if error.reason == "CredentialsRefused":
                raise
    assert first is not None
    raise first


def _token(http: Http, request: Request, secrets: Sequence[str]) -> str:
    response = ask(http, request)
    if token_refused(response):
        raise ProviderError("CredentialsRefused", f"{request.title} refuses the user or the password")
    if response.status != 200:
        raise http_error(request, response, secrets)
    found = parsed(request, response)
    token = found.get("token") if isinstance(found, dict) else None
    if not isinstance(token, str) or not token:
        raise unreadable(request)
    return token


def basic(user: str, password: str) -> str:
    """HTTP's basic authentication (RFC 7617)."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def token_refused(response: Response) -> bool:
    """Whether a server refuses the token or password, not the request itself.

    The refusal may be an HTTP status or only a text: `{"status": "ERROR", "message": "Login failed!"}`.
    """
    if response.status in (401, 403):
        return True
    said = words(response).lower()
    return status_of(response) == "ERROR" and any(word in said for word in ("login", "token", "auth", "credential"))


def status_of(response: Response) -> str:
    """The status word in every response of the servers; empty if there is none."""
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return ""
    return str(found.get("status", "")) if isinstance(found, dict) else ""
