"""The probes against the kernel's own stack: two namespaces on a cable, and one WireGuard tunnel."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reconciler.system import probe
from tests.contract.conftest import needs_root
from tests.namespaces import ip, private_network

pytestmark = pytest.mark.root

HERE, FAR = "192.0.2.1", "192.0.2.2"


@pytest.fixture(autouse=True)
def cable() -> Iterator[None]:
    """eth0 here, its other end in a namespace `far` that answers."""
    needs_root()
    with private_network():
        ip("netns add far")
        ip("link set eth1 netns far")
        for words in (
            f"address add {HERE}/24 dev eth0",
            "address add fd00::1/64 dev eth0 nodad",
            f"-n far address add {FAR}/24 dev eth1",
            "-n far address add fd00::2/64 dev eth1 nodad",
            "-n far link set eth1 up",
            "-n far link set lo up",
        ):
            ip(words)
        yield
        ip("netns del far")


@pytest.mark.parametrize("address", [FAR, "fd00::2"])
def test_an_address_answers(address: str) -> None:
    assert probe.ping(address, 5.0)
    assert probe.ping(address, 5.0, "eth0")


@pytest.mark.parametrize("address", ["192.0.2.99", "203.0.113.1"])
def test_an_address_where_nobody_is_does_not(address: str) -> None:
    assert not probe.ping(address, 0.3)


def test_an_answer_to_somebody_elses_question_is_none() -> None:
    assert probe.ping(FAR, 5.0)
    assert not probe.ping("192.0.2.99", 0.3)


def test_a_gateway_answers() -> None:
    assert probe.gateway(FAR, "eth0", 5.0)
    assert not probe.gateway("192.0.2.99", "eth0", 0.5)


def test_a_gateway_that_answers_no_echo_is_still_heard() -> None:
    ip("netns exec far sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    assert not probe.ping(FAR, 0.3)
    assert probe.gateway(FAR, "eth0", 5.0)


def test_a_gateway_that_was_known_and_is_gone_is_not_heard() -> None:
    assert probe.gateway(FAR, "eth0", 5.0)
    ip("-n far link set eth1 down")
    assert not probe.gateway(FAR, "eth0", 0.5)
    ip("-n far link set eth1 up")


class Quiet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    with HTTPServer((HERE, 0), Quiet) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found.server_port
        found.shutdown()
        thread.join()


def test_a_web_server_answers(server: int) -> None:
    assert probe.web(f"http://{HERE}:{server}/health", 5.0)
    assert not probe.web(f"http://{HERE}:{server}/broken", 0.3)
    assert not probe.web(f"http://{HERE}:1/health", 0.3)


def test_a_port_answers(server: int) -> None:
    assert probe.tcp(f"{HERE}:{server}", 5.0)
    assert not probe.tcp(f"{HERE}:1", 0.3)


@pytest.mark.parametrize(("flags", "answers", "expected"), [(0x8180, 1, True), (0x8183, 0, False)])
def test_a_resolver_is_asked(flags: int, answers: int, expected: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind((HERE, 53))
        resolver.settimeout(10)
        questions: list[bytes] = []

        def answer() -> None:
            question, asker = resolver.recvfrom(512)
            questions.append(question)
            resolver.sendto(question[:2] + struct.pack("!HHHHH", flags, 1, answers, 0, 0) + question[12:], asker)

        thread = threading.Thread(target=answer)
        thread.start()
        assert probe.resolves("example.org", HERE, 5.0 if expected else 0.3) is expected
        thread.join()
        assert b"\x07example\x03org\0\x00\x01\x00\x01" in questions[0]


def test_all_are_asked_at_once_and_the_slow_ones_left() -> None:
    never = threading.Event()

    def refused(seconds: float) -> bool:
        raise ConnectionRefusedError

    answers = probe.ask_all([lambda s: True, lambda s: never.wait(s + 1), refused, lambda s: False], 0.2)
    never.set()
    assert answers == [True, False, False, False]


@pytest.mark.parametrize("data", [b"\x08\0\0\0\0\1\0\1", bytes(range(16))])
def test_the_checksum_of_what_carries_its_checksum_is_zero(data: bytes) -> None:
    data = data[:2] + b"\0\0" + data[4:]
    whole = data[:2] + probe.checksum(data) + data[4:]
    assert probe.checksum(whole) == b"\0\0"
