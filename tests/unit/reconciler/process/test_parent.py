from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.base.line import Line
from reconciler.process.parent import AgentProcess, Parent, guarded

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

FORK = "sys.argv = guard(sys.argv)"
AGAIN = "agent run --config a.yaml"
RESTORED = "agent restore --because {} --config a.yaml"

BEATS = """\
import select, types
from reconciler.process import parent
real, beats = select.select, []
def beat(ears, writable, odd, seconds):
    readable = real(ears, [], [], {pause})
    beats.append(len(ears))
    child = Path("child")
    if child.exists() and ({enough}):
        pid = int(child.read_text())
        child.rename("ended")
        Path("beat").write_text(str(beats[-1]))
        os.kill({whom}, signal.SIGTERM)
    return readable
parent.select, parent.RESTORE_SECONDS = types.SimpleNamespace(select=beat), 1e9
parent.time = types.SimpleNamespace(monotonic=lambda: parent.BEAT * len(beats), sleep=lambda seconds: None)
"""
"""A parent whose clock goes by its beats. Once there were enough of them, and the child is there, one of both is told
to end."""
MANY = "len(beats) > 60"
WAITS = """\
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
Path("new").write_text(str(os.getpid()))
Path("new").rename("child")
"""
QUIET = f"{WAITS}signal.pause()"


def beats(enough: str = MANY, whom: str = "pid", pause: float | None = 0.002) -> str:
    """`pause` are the real seconds of a beat; None waits for a word of the child."""
    return BEATS.format(enough=enough, whom=whom, pause=pause)


class Family:
    """A parent and its children, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before = ""
        """What the parent runs before it forks."""
        self.environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}

    def start(self, body: str, *more: str) -> subprocess.Popen[bytes]:
        script = self.folder / "agent.py"
        script.write_text(CHILD.replace(FORK, f"{self.before}\n{FORK}") + body)
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


# Stops, hangs and beats


def test_a_stop_in_mid_change_that_ends_badly_is_taken_back(family: Family) -> None:
    """The agent could not end the change that it was in: nobody else would go back."""
    family.before = beats(whom="os.getpid()")
    assert family.run("to.arm(6000)\n" + QUIET.replace("sys.exit(3)", "sys.exit(7)")) == 7
    assert family.said == [AGAIN, RESTORED.format("the agent ended in mid-change (exit code 7)")]


def test_a_stop_lets_a_restore_come_to_its_end(family: Family) -> None:
    """It is what the host needs before it is left alone; so it gets no signal, and is waited for."""
    told = "os.kill(os.getppid(), signal.SIGTERM)\n    got = signal.sigtimedwait({signal.SIGTERM}, 0.5)"
    waits = f"signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})\n    {told}\n    said.write(f'{{got}}\\n')\n"
    script = CHILD.replace('    sys.exit(int(os.environ.get("RESTORED", "0")))', f"    {waits}    sys.exit(0)")
    (family.folder / "agent.py").write_text(f"{script}to.arm(60)\nos.kill(os.getpid(), signal.SIGKILL)")
    command = [sys.executable, "agent.py", *AGAIN.split()]
    code = subprocess.run(command, cwd=family.folder, env=family.environment, timeout=30, check=False).returncode
    assert code == 128 + signal.SIGKILL
    assert family.said == [AGAIN, RESTORED.format("the agent ended in mid-change (SIGKILL)"), "None"]


def test_a_restore_that_hangs_is_ended_and_tried_again(family: Family) -> None:
    family.before = "from reconciler.process import parent\nparent.RESTORE_SECONDS = 0.1"
    script = CHILD.replace('    sys.exit(int(os.environ.get("RESTORED", "0")))', "    signal.pause()")
    script = script.replace(FORK, f"{family.before}\n{FORK}")
    (family.folder / "agent.py").write_text(f"{script}to.arm(60)\nos.kill(os.getpid(), signal.SIGKILL)")
    command = [sys.executable, "agent.py", *AGAIN.split()]
    assert subprocess.run(command, cwd=family.folder, env=family.environment, timeout=30, check=False).returncode == 0
    assert [line.split()[1] for line in family.said] == ["run", "restore", "restore", "restore", "run"]


def test_a_stop_while_the_parent_rests_ends_the_next_child_too(family: Family) -> None:
    rest = "sleep=lambda seconds: os.kill(os.getpid(), signal.SIGTERM)"
    family.before = f"import types\nfrom reconciler.process import parent\nparent.time = {_clock(rest)}"
    assert family.run("to.ready()\nos.kill(os.getpid(), signal.SIGKILL)") == 128 + signal.SIGTERM
    assert family.said == [AGAIN], "it has not come as far as to say what it is"


def test_an_end_is_noticed_although_something_else_holds_the_line(family: Family) -> None:
    """What the agent has left behind may have the pipe open: there is no end of it, and nothing to read."""
    left = "if (left := os.fork()) == 0:\n    signal.pause()\nPath('left').write_text(str(left))"
    try:
        assert family.run(f"{left}\nsys.exit(3)") == 3
    finally:
        os.kill(int((family.folder / "left").read_text()), signal.SIGKILL)


def test_what_has_ended_gets_no_signal(family: Family) -> None:
    """Its number may be another's by then."""
    parent = Parent([])
    listening, speaking = os.pipe()
    os.close(speaking)
    child = AgentProcess(os.posix_spawn("/bin/true", ["true"], {}), listening, restores=False)
    parent.child = child
    select.select([child.ended], [], [])
    assert parent._bury(child) == 0
    assert parent.child is None


def _clock(sleep: str) -> str:
    return f"types.SimpleNamespace(monotonic=time.monotonic, {sleep})"


def test_an_agent_that_dies_again_and_again_is_started_more_and_more_slowly(family: Family) -> None:
    rest = "sleep=lambda seconds: open('rests', 'a').write(f'{seconds:g} ')"
    family.before = f"import types\nfrom reconciler.process import parent\nparent.time = {_clock(rest)}"
    script = CHILD.replace("if turn > 1:", "if turn > 12:").replace(FORK, f"{family.before}\n{FORK}")
    (family.folder / "agent.py").write_text(f"{script}os.kill(os.getpid(), signal.SIGKILL)")
    command = [sys.executable, "agent.py", *AGAIN.split()]
    assert subprocess.run(command, cwd=family.folder, env=family.environment, timeout=60, check=False).returncode == 0
    rests = (family.folder / "rests").read_text().split()
    assert rests == ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2", "6.4", "12.8", "25.6", "30", "30", "30"]


@pytest.mark.parametrize("says", ["to.alive()", "to.ready()", "to.arm(60)\nto.disarm()"])
def test_an_agent_that_falls_silent_is_ended_and_started_again(family: Family, says: str) -> None:
    family.before = beats("False")
    assert family.run(f"{says}\nsignal.pause()") == 0
    assert family.said == [AGAIN, RESTORED.format("the agent has said nothing for 180 s"), AGAIN]


@pytest.mark.parametrize(
    ("says", "more"),
    [
        ("", ()),  # it has just been started
        ("to.alive()\n", ("--once",)),
        ("to.alive()\nto.arm(6000)\nto.disarm()\nto.arm(6000)\n", ()),  # there is a deadline for that
    ],
)
def test_silence_is_no_hang_where_no_word_is_due(family: Family, says: str, more: tuple[str, ...]) -> None:
    family.before = beats()
    assert family.run(f"{says}{QUIET.replace('sys.exit(3)', 'sys.exit(0)')}", *more) == 0
    assert not any("said nothing" in line for line in family.said)


def test_an_agent_that_speaks_now_and_then_is_left_alone(family: Family) -> None:
    family.before = beats(pause=None)
    assert family.run(f"{WAITS}while True:\n    to.alive()") == 3
    assert family.said == [AGAIN]


def test_a_change_that_was_confirmed_has_no_deadline_any_more(family: Family) -> None:
    """Sixty beats are ten minutes on the parent's clock; and the words that end the silence are said anew."""
    family.before = beats(pause=None)
    assert family.run(f"to.arm(60)\nto.disarm()\n{WAITS}while True:\n    to.alive()") == 3
    assert family.said == [AGAIN]


def test_last_words_are_heard_although_the_end_was_seen_first(family: Family) -> None:
    sees_the_end = "lambda ears, *more: select.select(ears[-1:], [], [])"
    family.before = (
        "import select, types\nfrom reconciler.process import parent\n"
        f"parent.select = types.SimpleNamespace(select={sees_the_end})"
    )
    assert family.run("to.arm(60)\nos.kill(os.getpid(), signal.SIGKILL)") == 0
    assert family.said == [AGAIN, RESTORED.format("the agent ended in mid-change (SIGKILL)"), AGAIN]


def test_a_parent_does_not_spin_when_its_child_has_closed_the_line(family: Family) -> None:
    """It listens for the child's end only from then on: what is closed can be read for ever."""
    family.before = beats("beats[-1] == 1 or len(beats) > 5000", pause=0.5)
    assert family.run(f"os.close(to._descriptor)\n{QUIET}") == 3
    assert family.said == [AGAIN] and (family.folder / "beat").read_text() == "1"


def test_systemd_is_told_that_the_parent_is_there(family: Family) -> None:
    name = f"\0gitwan-{os.getpid()}-{family.folder.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(30)
        family.environment["NOTIFY_SOCKET"] = f"@{name[1:]}"
        family.before = beats("False")
        with family.start(WAITS + "signal.pause()") as parent:
            while systemd.recv(100) != b"WATCHDOG=1":
                pass
            systemd.close()  # nobody reads any more: what is sent from now on must not hold the parent up
            parent.terminate()
            assert parent.wait(30) in (3, 128 + signal.SIGTERM)


def test_nothing_of_its_memory_reaches_the_disk(family: Family) -> None:
    body = (
        "import ctypes, resource\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "assert ctypes.CDLL(None).prctl(3) == 0, 'PR_GET_DUMPABLE'\n"
        "sys.exit(4)"
    )
    assert family.run(body) == 4


def test_a_python_without_ctypes_will_do(family: Family) -> None:
    family.before = "sys.modules['ctypes'] = None"
    assert family.run("sys.exit(4)") == 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [("--config b.yaml", " --config b.yaml"), ("--config=b.yaml", " --config=b.yaml"), ("--verbose", "")],
)
def test_a_restore_has_the_agents_settings(family: Family, given: str, kept: str) -> None:
    (family.folder / "agent.py").write_text(CHILD + "to.arm(60)\nos.kill(os.getpid(), 40)")
    command = [sys.executable, "agent.py", "agent", "run", *given.split()]
    assert subprocess.run(command, cwd=family.folder, env=family.environment, timeout=30, check=False).returncode == 0
    assert family.said[1] == f"agent restore --because the agent ended in mid-change (signal 40){kept}"
