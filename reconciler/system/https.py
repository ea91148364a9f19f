"""Sends one request to a web server, limited in time and bytes; its packets carry the mark that bypasses exits."""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from reconciler.base.web import Http, Request, Response, WebError

SO_MARK = 36
"""asm-generic/socket.h; needs CAP_NET_ADMIN."""
AS_WRITTEN = "!#$%&'()*+,/:;=?@[]~"
"""The characters that a target may contain unencoded (RFC 3986), and the percent sign of encoded ones."""
HEADROOM = 64 << 10
"""Maximum bytes of the status and headers, in addition to the body."""
NOT_YET_VALID, HAS_EXPIRED = 9, 10
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl-verification-options(1))."""


def sender(mark: int) -> Http:
    """Returns a function that sends requests with a mark; 0 for none."""
    return partial(_send, mark)


def _send(mark: int, request: Request) -> Response:
    end = time.monotonic() + request.seconds
    _check(request)
    try:
        with _connect(mark, request, end) as connection:
            if not request.tls:
                return _exchange(connection, request, end)
            with _context(request).wrap_socket(
                connection, server_hostname=request.name, do_handshake_on_connect=False
            ) as secured:
                secured.settimeout(_left(end))
                secured.do_handshake()
                if request.ca is not None:
                    _check_name(secured, request)
                return _exchange(secured, request, end)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(request, error) from None


def _check(request: Request) -> None:
    """Check names and tokens, which come from outside: none may add a header line."""
    texts = [request.name, *request.headers, *request.headers.values()]
    if not all(text.isascii() and text.isprintable() for text in texts) or not request.name or " " in request.name:
        raise WebError("NameUnknown", f"{request.name!r} or a header for it is not fit for HTTP")


def _left(end: float) -> float:
    """Seconds until the end. Raises TimeoutError."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(mark: int, request: Request, end: float) -> socket.socket:
    targets = [request.address] if request.address else _look_up(request, end)
    for number, target in enumerate(targets):
        connection = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if mark:
                connection.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            if request.dev:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, request.dev.encode())
            connection.settimeout(_left(end) / (len(targets) - number))
            connection.connect((target, request.port))
        except OSError:
            connection.close()
            if number == len(targets) - 1:
                raise
        else:
            return connection
    raise WebError("NameUnknown", f"{request.name} has no address")


def _look_up(request: Request, end: float) -> list[str]:
    """The addresses of the name. The resolver has its own timeouts, so its thread is abandoned after ours."""
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(request.name, request.port, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except OSError as error:
            answers.put(error)
        except UnicodeError:
            answers.put(socket.gaierror(socket.EAI_NONAME, "no such name"))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_left(end))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _context(request: Request) -> ssl.SSLContext:
    context = ssl.create_default_context() if request.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if request.ca is not None:
        # The library checks the chain, and `_check_name` the name, because the library needs alternative names.
        context.check_hostname = False
        try:
            context.load_verify_locations(cadata=request.ca)
        except (ssl.SSLError, ValueError):
            raise WebError("CertificateWrong", f"the authority that is pinned for {request.name} is no PEM") from None
    return context


def _check_name(connection: ssl.SSLSocket, request: Request) -> None:
    """Check the alternative names, or the common name if there are none, as in PIA's certificates (RFC 6125, 6.4.4)."""
    cert = connection.getpeercert() or {}
    alternatives = [value for _, value in _pairs(cert.get("subjectAltName", ()))]
    subject = [pair for part in _rows(cert.get("subject", ())) for pair in part]
    names = alternatives or [value for key, value in subject if key == "commonName"]
    if request.name.lower() not in (name.lower() for name in names):
        shown = ", ".join(repr(name) for name in names[:3]) or "nobody"
        raise WebError("CertificateWrong", f"{request.name} shows a certificate of {shown}")


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(str(pair[0]), str(pair[1])) for pair in value] if isinstance(value, tuple) else []


def _rows(value: object) -> Iterable[list[tuple[str, str]]]:
    return [_pairs(row) for row in value] if isinstance(value, tuple) else []


class _Bounded(io.RawIOBase):
    """Reads from a connection until a time and up to a number of bytes."""

    def __init__(self, connection: socket.socket, request: Request, end: float) -> None:
        self._connection, self._request, self._end = connection, request, end
        self._bytes = request.limit + HEADROOM

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_left(self._end))
        count = self._connection.recv_into(buffer)
        self._bytes -= count
        if self._bytes < 0:
            raise _too_large(self._request)
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """The interface that http.client expects of a socket."""
        return io.BufferedReader(self)


def _exchange(connection: socket.socket, request: Request, end: float) -> Response:
    connection.settimeout(_left(end))
    connection.sendall(_encoded(request))
    answer = http.client.HTTPResponse(_Bounded(connection, request, end), method=request.method)  # type: ignore[arg-type]
    with answer:
        answer.begin()
        if (answer.length or 0) > request.limit:
            raise _too_large(request)
        body = answer.read(request.limit + 1)
        if len(body) > request.limit:
            raise _too_large(request)
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, headers, body)


def _encoded(request: Request) -> bytes:
    path = quote(request.path) + (f"?{urlencode(request.query)}" if request.query else "")
    if request.target:
        path = quote(request.target, safe=AS_WRITTEN)
    usual = request.port == (443 if request.tls else 80)
    headers = {
        "Host": request.name if usual else f"{request.name}:{request.port}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "User-Agent": "gitwan",
        **request.headers,
    }
    if request.body or request.method == "POST":
        headers["Content-Length"] = str(len(request.body))
    lines = [f"{request.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + request.body


def _too_large(request: Request) -> WebError:
    return WebError("TooLarge", f"{request.title} sends more than {request.limit} bytes")


def _failure(request: Request, error: Exception) -> WebError:
    where = f"{request.name} at {request.address}" if request.address else request.name
    match error:
        case ssl.SSLCertVerificationError(verify_code=code) if code == NOT_YET_VALID:
            return WebError("ClockWrong", f"the certificate of {where} is not valid yet: is this host's clock right?")
        case ssl.SSLCertVerificationError(verify_code=code) if code == HAS_EXPIRED:
            text = f"the certificate of {where} has expired, or this host's clock is ahead"
            return WebError("CertificateExpired", text)
        case ssl.SSLCertVerificationError():
            text = f"the certificate of {where} is not trusted: {error.verify_message}"
            return WebError("CertificateWrong", text)
        case TimeoutError():
            return WebError("TimedOut", f"{where} has not answered within {request.seconds:g} s")
        case ssl.SSLError():
            return WebError("TlsFailed", f"no TLS with {where}: {error.reason or 'it hung up'}")
        case socket.gaierror():
            return WebError("NameUnknown", f"{request.name} cannot be resolved: {error.strerror}")
        case http.client.IncompleteRead() | http.client.RemoteDisconnected():
            return WebError("Unreachable", f"{where} hung up before its answer was complete")
        case OSError():
            return WebError("Unreachable", f"{where} cannot be reached: {error.strerror or type(error).__name__}")
        case _:
            return WebError("NotHttp", f"{where} answers with something that is not HTTP")
