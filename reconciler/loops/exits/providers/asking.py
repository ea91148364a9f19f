"""Requests to a provider, and the meaning of its responses, without secrets in texts for people."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

from reconciler.base.web import Http, Request, Response, WebError
from reconciler.loops.exits.providers.base import Credentials, ProviderError, Registration, checked
from schema.ip import parse_address
from schema.plan import Peer

LIST_SECONDS, LIST_LIMIT = 15.0, 4 << 20
"""The lists of 2026 have half a megabyte; smart-vpn-client allowed 15 s."""
LONGEST_WORD, LONGEST_TEXT = 24, 160
LONGEST_WAIT = 86_400.0
LEAST_SECRET = 4
"""Removing a shorter secret from a text would only make the text unreadable."""


def ask(http: Http, request: Request) -> Response:
    """Send a request. Returns any response, whatever its status. Raises ProviderError if there is none."""
    try:
        return http(request)
    except WebError as error:
        raise ProviderError(error.reason, error.message) from None


def parsed(request: Request, response: Response) -> Any:
    """The JSON of a response. Raises ProviderError."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        raise unreadable(request) from None


def unreadable(request: Request) -> ProviderError:
    """The error for a response that does not follow the protocol."""
    return ProviderError("AnswerUnreadable", f"{request.title} answers in a form that is none of this protocol")


def session_of(session: Registration) -> Registration:
    """A session from a provider's responses, checked so that a tunnel can be built from it. Raises ProviderError."""
    try:
        return checked(session)
    except ValueError:
        text = f"no tunnel can be made of what the provider says of {session.gateway.id}"
        raise ProviderError("AnswerUnreadable", text) from None


def http_error(request: Request, response: Response, secrets: Collection[str] = ()) -> ProviderError:
    """The error for a status without a special meaning."""
    said = words(response, secrets)
    text = f"{request.title} answers with HTTP {response.status}{f': {said}' if said else ''}"
    if 300 <= response.status < 400:
        text += "; redirections are not followed"
    return ProviderError("HttpError", text, retry_after(response))


def retry_after(response: Response) -> float | None:
    """Seconds of `Retry-After` (RFC 9110, 10.2.3), if it is a number."""
    text = response.headers.get("retry-after", "")
    return min(float(text), LONGEST_WAIT) if re.fullmatch(r"\d{1,9}", text) else None


def words(response: Response, secrets: Collection[str] = ()) -> str:
    """The provider's error text, without anything secret that was sent; empty if it has no presentable text."""
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    said = next((value[key] for key in ("message", "detail", "error", "code") if isinstance(value.get(key), str)), "")
    return clean(said, secrets)


def clean(text: str, secrets: Collection[str]) -> str:
    """A foreign text for people: without secrets in any encoding, on one line, and short."""
    text = _hide(text, secrets)
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    # Again: a secret that was split over two lines may be whole now.
    text = _hide(text, secrets)
    # Anything as long as a key or a token is not for people.
    return " ".join("…" if len(word) > LONGEST_WORD else word for word in text.split(" "))[:LONGEST_TEXT]


def _hide(text: str, secrets: Collection[str]) -> str:
    for secret in sorted({s for s in secrets if len(s) >= LEAST_SECRET}, key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote_plus(secret), b64encode(secret.encode()).decode()):
            text = text.replace(form, "…")
    return text


def opened(credentials: Credentials, what: str) -> str:
    """The text of a secret. Raises ProviderError."""
    try:
        return credentials().decode().strip()
    except (LookupError, ValueError, OSError):
        raise ProviderError("CredentialsUnreadable", f"{what} cannot be opened on this host") from None


def is_key(value: object) -> bool:
    """Whether it is a WireGuard public key that a plan accepts."""
    try:
        return isinstance(value, str) and bool(Peer(dev="wg", public_key=value))
    except ValueError:
        return False


def is_address(value: object) -> bool:
    """Whether it is an address without prefix length and interface."""
    try:
        return isinstance(value, str) and bool(parse_address(value))
    except ValueError:
        return False


def is_name(value: object) -> bool:
    """Whether it is a name of a region or a server that may appear in ids, logs and requests."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value) is not None


def title_of(value: object, otherwise: str) -> str:
    """The provider's title for people, or `otherwise`."""
    return clean(value, ()) or otherwise if isinstance(value, str) else otherwise


def country_of(value: object) -> str:
    """An ISO 3166 country code in lower case; empty if it is none."""
    return value.lower() if isinstance(value, str) and re.fullmatch("[A-Za-z]{2}", value) else ""


def moment(text: str) -> float:
    """An ISO 8601 time, UTC by default, in seconds since the epoch. Raises ValueError or TypeError."""
    # Python cannot read nine decimal digits of a second.
    found = datetime.fromisoformat(re.sub(r"\.\d+", "", text))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
