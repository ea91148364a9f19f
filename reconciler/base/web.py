"""A request to a web server and its response; `system/https.py` sends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

HttpFailure = Literal[
    "CertificateExpired", "CertificateWrong", "ClockWrong", "NameUnknown", "NotHttp", "TimedOut", "TlsFailed",
    "TooLarge", "Unreachable",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one server. Fields that may contain a token or a password are not in `repr`."""

    name: str
    """The server's name: in SNI, in its certificate, in `Host`, and in DNS if there is no `address`."""
    path: str
    address: str | None = None
    """The address to connect to, instead of DNS."""
    port: int = 443
    method: Literal["GET", "POST", "DELETE"] = "GET"
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str = field(default="", repr=False)
    """Path and query exactly as sent, instead of `path` and `query`: for a URL that a person wrote."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    ca: str | None = None
    """The only trusted authority, in PEM; None trusts the system's authorities."""
    tls: bool = True
    seconds: float = 10.0
    """The limit for the whole request, from the name's look-up to the last byte."""
    limit: int = 64 << 10
    """Maximum bytes of the response."""
    dev: str | None = None
    """The interface to send through, whatever the routes say."""

    @property
    def title(self) -> str:
        """The part that may be shown to people."""
        return f"{self.name}{self.path}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response. The header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class WebError(Exception):
    """No response was received. The message contains nothing of the query, headers or body."""

    def __init__(self, reason: HttpFailure, message: str) -> None:
        super().__init__(message)
        self.reason: HttpFailure = reason
        self.message = message


Http = Callable[[Request], Response]
"""Sends a request. It follows no redirection, blocks for at most `seconds`, and raises WebError."""
