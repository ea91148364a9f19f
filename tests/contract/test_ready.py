"""When a program that was started is ready, on real files, sockets and processes."""

from __future__ import annotations

import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from reconciler.system.ready import Answers, Appears, Ready, Starting

LONG = 60.0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["a Unix socket", "a port"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | int]:
    """Where something answers."""
    path = tmp_path / "admin.sock"
    unix = request.param == "a Unix socket"
    server: socketserver.BaseServer = (
        socketserver.UnixStreamServer(str(path), Handler) if unix else socketserver.TCPServer(("127.0.0.1", 0), Handler)
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield path if unix else server.server_address[1]  # type: ignore[misc]
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_that_is_asked_is_ready_when_it_says_so(at: Path | int) -> None:
    assert Answers(at, "/ready")()
    assert not Answers(at, "/")()


def test_where_nothing_listens_nothing_is_ready(tmp_path: Path) -> None:
    (tmp_path / "stale").touch()
    assert not Answers(tmp_path / "none")() and not Answers(tmp_path / "stale")() and not Answers(1)()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "infinity"]) as process:
        yield process
        process.kill()


def test_a_file_that_appears_is_noticed(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    with Starting(tmp_path) as starting:
        writer = threading.Thread(target=(tmp_path / "ready").touch)
        writer.start()
        assert starting.wait(Appears(tmp_path / "ready"), lambda: process.pid, LONG)
        writer.join()


@pytest.mark.parametrize("ready", [Appears(Path("/nowhere")), Answers(Path("/nowhere"))])
def test_the_end_of_its_process_ends_the_wait(tmp_path: Path, process: subprocess.Popen[bytes], ready: Ready) -> None:
    with Starting(tmp_path) as starting:
        killer = threading.Thread(target=process.kill)
        killer.start()
        assert not starting.wait(ready, lambda: process.pid, LONG)
        killer.join()
        process.wait()
        assert not starting.wait(ready, lambda: process.pid, LONG), "nor is one waited for that is gone already"


def test_one_that_is_never_ready_is_waited_for_no_longer_than_is_said(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    with Starting(tmp_path) as starting:
        assert not starting.wait(Appears(tmp_path / "ready"), lambda: process.pid, 0.2)
        assert not starting.wait(Appears(tmp_path / "ready"), lambda: None, 0.2)


def test_where_no_change_can_be_announced_it_is_looked_for_again_and_again(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    with Starting(tmp_path) as starting:
        starting.__exit__()
        starting._changes = None
        writer = threading.Timer(0.2, (tmp_path / "ready").touch)
        writer.start()
        assert starting.wait(Appears(tmp_path / "ready"), lambda: process.pid, LONG)
        writer.join()
