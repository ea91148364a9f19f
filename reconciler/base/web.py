"""What is asked of a web server, and what it says; `system/https.py` sends it."""

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
    """One question to one server. What may hold a token or a password is in no `repr`."""

    name: str
    """The server's: in SNI, in its certificate, in `Host`, and in DNS where there is no address."""
    path: str
    address: str | None = None
    """Where to connect to, whatever DNS says."""
    port: int = 443
    method: Literal["GET", "POST", "DELETE"] = "GET"
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str = field(default="", repr=False)
    """Path and query as they are to be sent, in place of both: of a URL that somebody wrote."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    ca: str | None = None
    """The one authority in PEM that counts; None: those that the system trusts."""
    tls: bool = True
    seconds: float = 10.0
    """For all of it, from the look-up of the name to the last byte."""
    limit: int = 64 << 10
    """Bytes that an answer may have."""
    dev: str | None = None
    """An interface to leave by, whatever the routes say."""

    @property
    def title(self) -> str:
        """What people may read of it."""
        return f"{self.name}{self.path}"


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class WebError(Exception):
    """There is no answer. The message holds nothing of the query, the headers or the body."""

    def __init__(self, reason: HttpFailure, message: str) -> None:
        super().__init__(message)
        self.reason: HttpFailure = reason
        self.message = message


Http = Callable[[Request], Response]
"""Sends a request; follows no redirection. Blocks for at most its seconds. Raises WebError."""
