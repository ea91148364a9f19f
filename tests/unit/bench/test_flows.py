from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import flows
from bench.flows import BEHIND, Arrival, Flow, following
from tests.lab.twin import eventually

REPOSITORY = Path(__file__).parents[3]
SHELLS = {"in the foreground": 'exec "$@"', "in the background of a script": 'trap "" INT; exec "$@"'}
"""What a shell does before it starts a job: it has one in the background ignore SIGINT, and all that this starts."""


def started(shell: str, *words: str) -> subprocess.Popen[bytes]:
    command = ["sh", "-c", SHELLS[shell], "sh", sys.executable, "-m", "bench.flows", *words]
    return subprocess.Popen(command, cwd=REPOSITORY)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_receiver_that_is_told_to_end_writes_what_arrived(tmp_path: Path, shell: str) -> None:
    file = tmp_path / "arrivals"
    with started(shell, "receive", "0", str(file)) as receiver:
        try:
            eventually(file.with_suffix(".ready").exists, what="a receiver")
            receiver.terminate()
            assert receiver.wait(10) == 0
        finally:
            receiver.kill()
    assert flows.read(file) == {}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_sender_that_is_told_to_end_ends(shell: str) -> None:
    # A loopback address of this process's own: others on the machine may send from the same ports.
    source = f"127.{os.getpid() >> 16 & 255}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        port = str(listener.getsockname()[1])
        with started(shell, "send", "127.0.0.1", port, "1", "100", source) as sender:
            try:
                assert len(listener.recv(2048)) == 100
                sender.terminate()
                assert sender.wait(10) == 0
            finally:
                sender.kill()


def test_what_the_sender_was_late_by_is_no_gap() -> None:
    late = Flow([Arrival(0, 0.0, 0.1), Arrival(1, 0.1, 0.2), Arrival(2, 0.9, 1.0), Arrival(4, 1.1, 1.2)])
    assert late.gap(10) == pytest.approx(0.2)
    assert (late.lost, late.reordered) == (1, 0)


@given(stop=st.floats(1, 1000), rate=st.floats(10, 1000))
def test_a_sender_that_was_stopped_sends_no_burst(stop: float, rate: float) -> None:
    """However long that was: what may follow at once is what fits into a moment."""
    due, burst = following(0.0, 1 / rate, stop), 0
    while due < stop:
        due, burst = following(due, 1 / rate, stop), burst + 1
    assert burst <= BEHIND * rate + 1


def test_a_sender_that_is_a_little_late_keeps_its_pace() -> None:
    assert following(10.0, 0.01, 10.02) == pytest.approx(10.01)
