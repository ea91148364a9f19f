"""A question as it goes out, to a server on loopback."""

from __future__ import annotations

import socket
import threading

import pytest

from reconciler.base.web import Request
from reconciler.system.https import sender


def sent(**changes: str) -> str:
    """The first line that a server gets."""
    lines: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as file:
                lines.append(file.readline())
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        values = {"name": "check.example", "path": "/", "address": "127.0.0.1", **changes}
        sender(0)(Request(**values, port=listener.getsockname()[1], tls=False))  # type: ignore[arg-type]
        thread.join()
    return lines[0].decode().rstrip()


@pytest.mark.parametrize("target", ["/a%20b?c=%2F&d=e+f", "/?q", "/~x/(1);v=1,2:3@4"])
def test_a_target_that_somebody_wrote_is_sent_as_it_is(target: str) -> None:
    assert sent(target=target) == f"GET {target} HTTP/1.1"


def test_nothing_in_a_target_adds_a_line() -> None:
    assert sent(target="/a b\r\nX: ü") == "GET /a%20b%0D%0AX:%20%C3%BC HTTP/1.1"


def test_a_path_of_ours_is_encoded() -> None:
    assert sent(path="/a b%") == "GET /a%20b%25 HTTP/1.1"
