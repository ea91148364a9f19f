"""The agent's parent: a small process that enforces the deadline of a change. It uses only the standard library.

The agent is its child. Over a pipe it says when a change begins (`arm SECONDS`), when the change is confirmed or rolled
back (`disarm`), and regularly that it is alive (`alive`). If the child dies during a change, or misses the deadline
because it hangs, is stopped or was killed for its memory, the parent makes sure that it is dead, lets another child
restore the last confirmed plan, and starts the agent again.

Children are forked before any heavy import: they start at once, and the parent stays small. systemd watches the parent
(sd_notify(3)). If the parent dies, the agent dies with it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from reconciler.base.line import Line
from reconciler.base.log import log

SILENT = 180.0
"""Without a word for this many seconds, an agent without a change under way counts as hung."""
BEAT = 10.0
"""Seconds between two `alive` messages of the agent, and between two of the parent to systemd."""
RESTORE_SECONDS, RESTORE_TRIES = 60.0, 3
LONGEST_PAUSE = 30.0
"""Maximum seconds between two starts of an agent that keeps dying."""
_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_KILLED = 128
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

_to_parent: int | None = None
"""In a child: the pipe to the parent."""


def line() -> Line:
    """The line from this process to its parent."""
    return Line(_to_parent)


def guarded(argv: Sequence[str]) -> bool:
    """Whether a command line runs an agent that may change something."""
    return list(argv[1:3]) == ["agent", "run"] and not {"--dry-run", "--help", "-h"} & set(argv)


def guard(argv: Sequence[str]) -> list[str]:
    """Become the parent of this command. Returns in each child, with the command line to run."""
    return Parent(list(argv)).run()


class AgentProcess:
    """A child and its last messages. Times are of the monotonic clock. Not a dataclass, which would cost a megabyte."""

    def __init__(self, pid: int, listening: int, restores: bool) -> None:
        self.pid = pid
        self.listening = listening
        """Our end of the pipe."""
        self.ended = os.pidfd_open(pid)
        """A descriptor that becomes readable when the child has ended."""
        self.restores = restores
        """The child only restores the last confirmed plan, and is allowed to finish."""
        self.armed = False
        self.until: float | None = None
        """The end of its deadline."""
        self.heard: float | None = None
        """The time of its last message."""
        self.rest = b""
        self.deaf = False
        """The child has closed its end of the pipe."""


class Parent:
    """Runs until the agent ends by itself."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.child: AgentProcess | None = None
        self.stopping = False
        self.pause = 0.0
        self.notify = os.environ.pop("NOTIFY_SOCKET", "")

    def run(self) -> list[str]:
        _no_core()
        for number in _STOPS:
            signal.signal(number, self._pass_on)
        while True:
            if self._fork():
                return self.argv
            code, because = self._watch()
            if self.stopping and code == 0:
                because = ""  # it was told to end, and only the far ends of the plan on trial have not passed
            if because and (command := self._restore(because)):
                return command
            if self.stopping or (code < _KILLED and not because) or "--once" in self.argv:
                self._tell("STOPPING=1")
                sys.stdout.flush()
                os._exit(code)
            self._rest()

    def _pass_on(self, number: int, frame: object) -> None:
        self.stopping = True
        if self.child is not None and not self.child.restores:
            _kill(self.child.pid, signal.SIGTERM)

    def _fork(self, restores: bool = False) -> bool:
        """Fork a child. Returns True in the child."""
        global _to_parent
        listening, speaking = os.pipe()
        me = os.getpid()
        # A stop that came while the child still had our handlers would be lost in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        pid = os.fork()
        if pid == 0:
            _die_with(me)
            os.close(listening)
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            _to_parent = speaking
            return True
        os.close(speaking)
        os.set_blocking(listening, False)
        self.child = AgentProcess(pid, listening, restores)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        if self.stopping and not restores:
            _kill(pid, signal.SIGTERM)
        return False

    def _watch(self) -> tuple[int, str]:
        """Follow the child to its end. Returns its exit code, and the reason why its change must be rolled back."""
        child = self.child
        assert child is not None
        because = ""
        while True:
            ears = [child.ended] if child.deaf else [child.listening, child.ended]
            readable, _, _ = select.select(ears, [], [], BEAT if because else self._wait(child))
            if child.listening in readable:
                self._hear(child)
            if child.ended in readable:
                self._hear(child)  # its last messages
                code = self._bury(child)
                if child.armed and not because:
                    because = f"the agent ended in mid-change ({_words(code)})"
                return code, because
            if not because and (because := self._too_late(child)):
                log("error", f"{because}: killing the agent")
                _kill(child.pid, signal.SIGKILL)
            self._tell("WATCHDOG=1")

    def _wait(self, child: AgentProcess) -> float:
        now = time.monotonic()
        return BEAT if child.until is None else max(0.0, min(BEAT, child.until - now))

    def _hear(self, child: AgentProcess) -> None:
        try:
            data = os.read(child.listening, 65536)
        except BlockingIOError:
            return
        child.deaf = not data
        *lines, child.rest = (child.rest + data).split(b"\n")
        for words in (line.decode().split() for line in lines):
            child.heard = time.monotonic()
            match words:
                case ["arm", seconds]:
                    child.armed, child.until = True, time.monotonic() + float(seconds)
                case ["disarm"]:
                    child.armed, child.until = False, None
                case ["ready"]:
                    self._tell("READY=1")

    def _too_late(self, child: AgentProcess) -> str:
        """The reason why the child must be killed; empty if there is none."""
        now = time.monotonic()
        if child.until is not None and now >= child.until:
            return "the deadline passed before the change was confirmed"
        at_rest = child.until is None and child.heard is not None and "--once" not in self.argv
        if at_rest and now - (child.heard or now) > SILENT:
            return f"the agent has said nothing for {SILENT:g} s"
        return ""

    def _bury(self, child: AgentProcess) -> int:
        """Wait for a child that has ended. Returns its exit code, in a shell's notation."""
        _, status = os.waitpid(child.pid, 0)
        os.close(child.listening)
        os.close(child.ended)
        self.child = None
        code = os.waitstatus_to_exitcode(status)
        return _KILLED - code if code < 0 else code

    def _restore(self, because: str) -> list[str] | None:
        """Let a child restore the last confirmed plan. Returns its command line in the child, None in the parent."""
        command = [self.argv[0], "agent", "restore", "--because", because, *_config(self.argv)]
        for _ in range(RESTORE_TRIES):
            log("error", f"{because}: restoring the last confirmed plan")
            if self._fork(restores=True):
                return command
            child = self.child
            assert child is not None
            child.until = time.monotonic() + RESTORE_SECONDS
            code, _late = self._watch()
            if code == 0:
                return None
        log("error", "the last confirmed plan could not be restored; the agent goes on trying")
        return None

    def _rest(self) -> None:
        """Wait before the next start: an agent that keeps dying is restarted more and more slowly."""
        self.pause = min(LONGEST_PAUSE, 2 * self.pause or 0.1)
        time.sleep(self.pause)

    def _tell(self, state: str) -> None:
        """Notify systemd, if it listens."""
        if not self.notify:
            return
        import socket

        address = "\0" + self.notify[1:] if self.notify.startswith("@") else self.notify
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.sendto(state.encode(), address)
        except OSError:
            pass


def _config(argv: Sequence[str]) -> list[str]:
    """The `--config` option of a command line, as it was given."""
    for number, word in enumerate(argv):
        if word == "--config":
            return list(argv[number : number + 2])
        if word.startswith("--config="):
            return [word]
    return []


def _words(code: int) -> str:
    if code <= _KILLED:
        return f"exit code {code}"
    try:
        return signal.Signals(code - _KILLED).name
    except ValueError:
        return f"signal {code - _KILLED}"


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _no_core() -> None:
    """Disable core dumps for this process and its children, because they would write decrypted secrets to disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with(parent: int) -> None:
    """Let the kernel kill this process, even a stopped one, when its parent ends (prctl(2)). Never dump its memory."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        library.prctl(_PR_SET_DUMPABLE, 0)  # RLIMIT_CORE does not apply to a core_pattern that pipes
    except (ImportError, OSError, AttributeError, MemoryError):
        pass  # the lock of the state folder still keeps a second agent from writing
    if os.getppid() != parent:
        os._exit(1)
