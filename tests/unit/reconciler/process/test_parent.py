from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.base.line import Line
from reconciler.process.parent import guarded

CHILD = """\
import os, signal, sys, time
from pathlib import Path
from reconciler.process.parent import guard, line

sys.argv = guard(sys.argv)
said = open("said", "a", buffering=1)
said.write(" ".join(sys.argv[1:]) + "\\n")
turn = len(Path("said").read_text().splitlines())
to = line()
if sys.argv[2] == "restore":
    sys.exit(int(os.environ.get("RESTORED", "0")))
if turn > 1:
    sys.exit(0)
"""
"""What stands for the agent: it writes down what it is told to be, and is well when it is started again."""

AGAIN = "agent run --config a.yaml"


class Family:
    """A parent and its children, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}

    def start(self, body: str, *more: str) -> subprocess.Popen[bytes]:
        script = self.folder / "agent.py"
        script.write_text(CHILD + body)
        command = [sys.executable, str(script), *AGAIN.split(), *more]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stderr=subprocess.DEVNULL)

    def run(self, body: str, *more: str) -> int:
        return self.start(body, *more).wait(30)

    @property
    def said(self) -> list[str]:
        return (self.folder / "said").read_text().splitlines()


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_an_agent_that_ends_by_itself_is_not_started_again(family: Family, code: int) -> None:
    assert family.run(f"sys.exit({code})") == code
    assert family.said == [AGAIN]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("sys.exit(1)", "exit code 1"),
    ],
)
def test_what_a_dead_agent_began_is_taken_back(family: Family, end: str, words: str) -> None:
    assert family.run(f"to.arm(60)\n{end}") == 0
    because = f"the agent ended in mid-change ({words})"
    assert family.said == [AGAIN, f"agent restore --because {because} --config a.yaml", AGAIN]


@pytest.mark.parametrize("hang", ["os.kill(os.getpid(), signal.SIGSTOP)", "time.sleep(60)", "while True: pass"])
def test_a_change_that_takes_too_long_is_taken_back(family: Family, hang: str) -> None:
    assert family.run(f"to.arm(0.2)\n{hang}") == 0
    because = "the deadline passed before the change was confirmed"
    assert family.said == [AGAIN, f"agent restore --because {because} --config a.yaml", AGAIN]


def test_a_change_may_be_given_more_time(family: Family) -> None:
    assert family.run("to.arm(0.1)\nto.arm(60)\ntime.sleep(0.3)\nto.disarm()\nsys.exit(0)") == 0
    assert family.said == [AGAIN]


def test_an_agent_that_dies_at_rest_is_started_again(family: Family) -> None:
    assert family.run("to.arm(60)\nto.disarm()\nos.kill(os.getpid(), signal.SIGKILL)") == 0
    assert family.said == [AGAIN, AGAIN]


def test_one_cycle_is_not_run_again(family: Family) -> None:
    assert family.run("to.arm(60)\nos.kill(os.getpid(), signal.SIGKILL)", "--once") == 128 + signal.SIGKILL
    assert [line.split()[1] for line in family.said] == ["run", "restore"]


def test_a_restore_that_fails_is_tried_again(family: Family) -> None:
    family.environment["RESTORED"] = "1"
    assert family.run("to.arm(60)\nos.kill(os.getpid(), signal.SIGKILL)") == 0
    assert [line.split()[1] for line in family.said] == ["run", "restore", "restore", "restore", "run"]


def test_an_agent_that_says_no_more_is_still_waited_for(family: Family) -> None:
    assert family.run("os.close(to._descriptor)\ntime.sleep(0.1)\nsys.exit(3)") == 3
    assert family.said == [AGAIN]


@pytest.mark.parametrize("code", [0, 7])
def test_stopping_is_passed_on(family: Family, code: int) -> None:
    handler = f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))"
    arm = "" if code else "to.arm(60)"
    body = f"{handler}\n{arm}\nos.write(1, b'x')\nsignal.pause()"
    script = family.folder / "agent.py"
    script.write_text(CHILD + body)
    command = [sys.executable, str(script), *AGAIN.split()]
    with subprocess.Popen(command, cwd=family.folder, env=family.environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.read(1) == b"x"
        parent.terminate()
        assert parent.wait(30) == code
    assert family.said == [AGAIN]  # what was on trial is left to the next start


@pytest.mark.parametrize("state", ["signal.pause()", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_an_agent_does_not_outlive_its_parent(family: Family, state: str) -> None:
    script = family.folder / "agent.py"
    script.write_text(CHILD + f"os.write(1, str(os.getpid()).encode() + b'.')\n{state}")
    command = [sys.executable, str(script), *AGAIN.split()]
    with subprocess.Popen(command, cwd=family.folder, env=family.environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        said = b""
        while not said.endswith(b"."):
            said += parent.stdout.read(1)
        child = os.pidfd_open(int(said[:-1]))
        parent.kill()
        assert parent.stdout.read() == b""  # the child held the other end
        os.close(child)


def test_systemd_is_told(family: Family) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(family.folder / "notify"))
        systemd.settimeout(30)
        family.environment["NOTIFY_SOCKET"] = str(family.folder / "notify")
        body = "assert 'NOTIFY_SOCKET' not in os.environ\nto.ready()\nto.alive()\nsys.exit(0)"
        assert family.run(body) == 0
        heard = set()
        systemd.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                heard.add(systemd.recv(100))
    assert {b"READY=1", b"STOPPING=1"} <= heard


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("agent run", True),
        ("agent run --config x --once", True),
        ("agent run --dry-run", False),
        ("agent run --help", False),
        ("agent status", False),
        ("validate", False),
        ("", False),
    ],
)
def test_only_what_may_change_something_is_guarded(words: str, expected: bool) -> None:
    assert guarded(["gitwan", *words.split()]) is expected


def test_nothing_is_said_where_nobody_listens() -> None:
    Line(None).arm(1)
    reader, writer = os.pipe()
    os.close(reader)
    line = Line(writer)
    line.alive()
    line.alive()
    os.close(writer)
