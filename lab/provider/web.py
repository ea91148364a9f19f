"""HTTP and HTTPS servers in namespaces, with all their faults."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lab.netns import within
from lab.provider.make import Files
from lab.provider.twin import Call, Faults, HttpReply

GIGABYTE = 1_000_000_000
BLOCK = bytes(1 << 16)
TTL = 30
A, AAAA = b"\0\1", b"\0\x1c"
Responder = Callable[[Call], HttpReply]


class WebServer(ThreadingHTTPServer):
    """A server in a namespace. It runs as soon as it is created. With `files` it uses TLS and the certificate
    `name`."""

    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(
        self, space: str, address: str, port: int, at: str, answer: Responder, faults: Faults,
        files: Files | None = None, name: str = "",
    ) -> None:  # fmt: skip
        """Raises OSError."""
        self.at, self.answer, self.faults = at, answer, faults
        self._contexts = {f: _context(files, name, f) for f in ("", "other-name", "not-yet-valid")} if files else {}
        with within(space):
            super().__init__((address, port), RequestHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def server_bind(self) -> None:
        """Does not look up the name of its own address, because no DNS server knows it."""
        TCPServer.server_bind(self)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Uses a thread for each client, so that a client with a slow TLS handshake delays nobody else."""
        fault = self.faults.at(self.at)
        with suppress(OSError):
            if fault == "silence":
                while request.recv(1 << 16):
                    pass
                return
            if self._contexts:
                context = self._contexts.get(fault) or self._contexts[""]
                request = context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
            if self._contexts:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        sys.stderr.write(f"{self.at}: {client_address[0]}: {sys.exc_info()[1]}\n")


def _context(files: Files, name: str, fault: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate(name, fault))
    return context


class RequestHandler(BaseHTTPRequestHandler):
    """Parses calls and writes replies, including faulty ones."""

    server: WebServer

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        match self.server.faults.at(self.server.at):
            case "http-500":
                self._send(HttpReply(500, b"<html>Internal Server Error</html>"))
            case "garbage":
                self._send(HttpReply(200, bytes(range(256)) * 16))
            case "huge":
                self._flood()
            case _:
                call = Call(
                    at=self.server.at,
                    method=self.command,
                    path=parts.path,
                    client=self.client_address[0],
                    query=dict(parse_qsl(parts.query)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(length),
                )
                self._send(self.server.answer(call))

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - as http.server wants them

    def _send(self, reply: HttpReply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def _flood(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(GIGABYTE))
        self.end_headers()
        with suppress(OSError):
            for _ in range(GIGABYTE // len(BLOCK)):
                self.wfile.write(BLOCK)

    def log_message(self, format: str, *args: object) -> None:
        """Logs only the path, because the rest of a request may contain tokens."""
        path = urlsplit(getattr(self, "path", "")).path
        sys.stderr.write(f"{self.server.at}: {self.client_address[0]} {getattr(self, 'command', '')} {path}\n")


class DnsServer:
    """A DNS server (RFC 1035) for the lab's names in a namespace. It runs as soon as it is created."""

    def __init__(self, space: str, address: str, names: Mapping[str, str], names6: Mapping[str, str]) -> None:
        """Raises OSError."""
        self._names, self._names6 = names, names6
        with within(space):
            self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((address, 53))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(1 << 12)
            with suppress(OSError, ValueError, IndexError):
                self._socket.sendto(resolved(query, self._names, self._names6), client)


def resolved(query: bytes, names: Mapping[str, str], names6: Mapping[str, str]) -> bytes:
    """The answer to a query for an A or AAAA record. Raises ValueError or IndexError for an invalid query."""
    labels, position = [], 12
    while size := query[position]:
        labels.append(query[position + 1 : position + 1 + size].decode("ascii"))
        position += 1 + size
    question = query[12 : position + 5]
    name, kind = ".".join(labels).lower(), question[-4:-2]
    found = {
        code: socket.inet_pton(family, named[name])
        for code, family, named in ((A, socket.AF_INET, names), (AAAA, socket.AF_INET6, names6))
        if name in named
    }
    records = [
        b"\xc0\x0c" + code + b"\0\1" + TTL.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
        for code, data in found.items()
        if code == kind
    ]
    # Flags: response, recursion desired and available. NXDOMAIN for an unknown name.
    flags = b"\x81\x80" if found else b"\x81\x83"
    return query[:2] + flags + b"\0\1\0" + bytes([len(records)]) + bytes(4) + question + b"".join(records)
