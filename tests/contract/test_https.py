"""Questions to web servers of every kind of bad will, over real sockets and TLS; each ends in time, with its reason."""

from __future__ import annotations

import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from lab.provider.authority import Authority
from reconciler.base.web import Request, Response, WebError
from reconciler.system.https import sender
from schema.plan.marks import DEFAULT
from tests.contract.conftest import needs_root
from tests.namespaces import private_network, run

pytestmark = pytest.mark.root
NAME = "london401"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Word: Yes\r\n\r\nhello"
Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def network() -> Iterator[None]:
    needs_root()
    with private_network():
        yield


@contextmanager
def server(serve: Serve, pem: str | None, folder: Path) -> Iterator[tuple[int, list[str | None]]]:
    """A server of one connection, with TLS where it has a certificate; its port, and the names that were asked for."""
    names: list[str | None] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def one() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                if pem is None:
                    serve(connection)
                    return
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                (folder / "cert.pem").write_text(pem)
                context.load_cert_chain(folder / "cert.pem")
                context.sni_callback = lambda _, name, __: names.append(name)
                with context.wrap_socket(connection, server_side=True) as secured:
                    serve(secured)

    thread = threading.Thread(target=one)
    thread.start()
    try:
        yield listener.getsockname()[1], names
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answering(data: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return serve


def silent(connection: socket.socket) -> None:
    """Until the client is gone."""
    while connection.recv(65536):
        pass


def asked(port: int, ca: str | None, **more: object) -> Response:
    fields = {"name": NAME, "path": "/addKey", "address": "127.0.0.1", "seconds": 10.0, **more}
    return sender(DEFAULT.bypass)(Request(port=port, ca=ca, **fields))  # type: ignore[arg-type]


def refused(port: int, ca: str | None, reason: str, **more: object) -> WebError:
    with pytest.raises(WebError) as caught:
        asked(port, ca, query={"pt": "of-no-concern"}, headers={"Authorization": "Basic hidden"}, **more)
    assert caught.value.reason == reason, caught.value.message
    assert "of-no-concern" not in caught.value.message and "hidden" not in caught.value.message
    return caught.value


def test_a_certificate_with_a_common_name_only_is_good_for_that_name(
    network: None, authority: Authority, tmp_path: Path
) -> None:
    with server(answering(OK), authority.issue(NAME), tmp_path) as (port, names):
        response = asked(port, authority.pem)
    assert (response.status, response.body, response.headers["x-word"]) == (200, b"hello", "Yes")
    assert names == [NAME]


def test_a_question_is_sent_as_it_was_written(network: None, authority: Authority, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(OK)

    with server(serve, authority.issue(NAME), tmp_path) as (port, _):
        asked(port, authority.pem, method="POST", query={"pt": "a+b/c="}, headers={"X-A": "b"}, body=b"{}")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /addKey?pt=a%2Bb%2Fc%3D HTTP/1.1"
    assert {f"Host: {NAME}:{port}", "X-A: b", "Content-Length: 2", "Connection: close"} <= set(lines)
    assert body == b"{}"


@pytest.mark.parametrize(
    ("issue", "reason"),
    [
        (lambda own: own.issue("paris402"), "CertificateWrong"),
        (lambda own: own.issue(NAME, ["paris402"]), "CertificateWrong"),
        (lambda own: Authority().issue(NAME), "CertificateWrong"),
        (lambda own: own.issue(NAME, starts=timedelta(days=1)), "ClockWrong"),
        (lambda own: own.issue(NAME, starts=-timedelta(days=800)), "CertificateExpired"),
    ],
    ids=["another name", "alternative names count alone", "another authority", "not valid yet", "expired"],
)
def test_a_certificate_that_is_not_good_is_refused(
    network: None, authority: Authority, tmp_path: Path, issue: Callable[[Authority], str], reason: str
) -> None:
    with server(answering(OK), issue(authority), tmp_path) as (port, _):
        refused(port, authority.pem, reason)


def test_an_alternative_name_is_good(network: None, authority: Authority, tmp_path: Path) -> None:
    with server(answering(OK), authority.issue("other", ["api.example.net", NAME]), tmp_path) as (port, _):
        assert asked(port, authority.pem).status == 200


def test_without_a_pinned_authority_those_of_the_system_count(
    network: None, authority: Authority, tmp_path: Path
) -> None:
    with server(answering(OK), authority.issue(NAME, [NAME]), tmp_path) as (port, _):
        refused(port, None, "CertificateWrong")


def test_an_answer_beyond_the_limit_costs_no_memory(network: None, authority: Authority, tmp_path: Path) -> None:
    """A gigabyte is announced and begun, or only begun, in one piece or in many."""
    heads = (b"Content-Length: 1000000000\r\n", b"", b"Transfer-Encoding: chunked\r\n")
    for head in heads:
        block = b"10000\r\n" + bytes(65536) + b"\r\n" if b"chunked" in head else bytes(65536)

        def flood(connection: socket.socket, head: bytes = head, block: bytes = block) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
            for _ in range(1_000_000_000 // len(block)):
                connection.sendall(block)

        with server(flood, authority.issue(NAME), tmp_path) as (port, _):
            tracemalloc.start()
            try:
                refused(port, authority.pem, "TooLarge", limit=1 << 20)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert peak < 4 << 20, f"{peak} bytes"


@pytest.mark.parametrize(
    "line", [b"X-Long: " + b"a" * 100_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000], ids=["long line", "continue"]
)
def test_headers_without_end_are_bounded_too(network: None, authority: Authority, tmp_path: Path, line: bytes) -> None:
    data = line if line.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n" + line
    with server(answering(data), authority.issue(NAME), tmp_path) as (port, _), pytest.raises(WebError) as caught:
        asked(port, authority.pem)
    assert caught.value.reason in ("NotHttp", "TooLarge")


def one_byte_at_a_time(connection: socket.socket) -> None:
    """Never silent for long, and never done."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    done = threading.Event()
    while not done.wait(0.05):
        connection.sendall(b"X")


@pytest.mark.parametrize("serve", [silent, one_byte_at_a_time])
def test_a_server_that_never_ends_is_left_when_the_time_is_over(
    network: None, authority: Authority, tmp_path: Path, serve: Serve
) -> None:
    with server(serve, authority.issue(NAME), tmp_path) as (port, _):
        refused(port, authority.pem, "TimedOut", seconds=0.5)


def test_a_server_that_is_silent_before_tls_is_left_too(network: None, authority: Authority, tmp_path: Path) -> None:
    with server(silent, None, tmp_path) as (port, _):
        refused(port, authority.pem, "TimedOut", seconds=0.5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Unreachable"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "NotHttp"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "Unreachable"),
    ],
    ids=["nothing", "another protocol", "half an answer"],
)
def test_what_is_no_whole_answer_is_none(
    network: None, authority: Authority, tmp_path: Path, data: bytes, reason: str
) -> None:
    with server(answering(data), authority.issue(NAME), tmp_path) as (port, _):
        refused(port, authority.pem, reason)


def test_a_server_without_tls_is_said_to_be_so(network: None, authority: Authority, tmp_path: Path) -> None:
    with server(answering(OK), None, tmp_path) as (port, _):
        refused(port, authority.pem, "TlsFailed")
    with server(answering(OK), None, tmp_path) as (port, _):
        assert asked(port, None, tls=False).body == b"hello"


def test_redirections_are_not_followed(network: None, authority: Authority, tmp_path: Path) -> None:
    data = b"HTTP/1.1 302 Found\r\nLocation: https://portal.example/\r\nContent-Length: 0\r\n\r\n"
    with server(answering(data), authority.issue(NAME), tmp_path) as (port, _):
        assert asked(port, authority.pem).status == 302


def test_nobody_there_and_no_such_name(network: None, authority: Authority) -> None:
    refused(9, authority.pem, "Unreachable")
    refused(443, authority.pem, "NameUnknown", name="no-such-name.invalid", address=None)
    refused(443, authority.pem, "NameUnknown", name="two words")
    refused(443, authority.pem, "Unreachable", dev="no-such-dev")


def test_a_token_with_a_line_end_adds_no_header(network: None, authority: Authority) -> None:
    with pytest.raises(WebError, match="not fit for HTTP"):
        asked(9, authority.pem, headers={"Authorization": "Bearer a\r\nX-Evil: yes"})


def test_its_packets_carry_the_mark_that_bypasses_exits(network: None, authority: Authority, tmp_path: Path) -> None:
    run(f"iptables -A OUTPUT -p tcp --syn -m mark ! --mark {DEFAULT.match(0)} -j REJECT")
    with server(answering(OK), authority.issue(NAME), tmp_path) as (port, _):
        with pytest.raises(WebError):
            sender(mark=0)(Request(NAME, "/", "127.0.0.1", port, ca=authority.pem))
        assert asked(port, authority.pem).status == 200
