"""The host's daemons that run with our configuration, at most one of each in a state folder (`service_files.py`)."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from reconciler.kinds.base import Failure, Observed
from reconciler.kinds.service import MARKER
from reconciler.system import launch
from reconciler.system import service_files as files
from reconciler.system.aside import Aside
from reconciler.system.ends import Ends
from reconciler.system.failure import failure
from reconciler.system.programs import PROGRAMS, reloads
from reconciler.system.ready import Ready, Runs, Starting, ended, opened
from reconciler.system.service_files import Paths
from schema.plan import Change, Service
from schema.plan.service import Daemon

SECONDS = 5.0
"""Maximum seconds for a daemon to check a configuration, to start or to end."""
_WORDS = 3
"""Maximum lines of an error text that are shown."""


class ServiceDriver:
    """A process is ours if our pid file names it, it is the right program, and our file is on its command line.

    Daemons are not children of the agent, and keep running when it ends.
    """

    def __init__(self, folder: Path, aside: Aside = nullcontext, ends: Ends | None = None) -> None:
        """`ends` is told which processes to wait for."""
        self._folder = folder.absolute()
        self._aside = aside
        self._ends = ends

    def observe(self) -> list[Observed[Service]]:
        found = []
        for name in PROGRAMS:
            paths = self._paths(name)
            service, alive = files.told(paths, name), self._process(name)
            self._follow(name, alive)
            files.trim(paths.path("log"))
            if service is not None or alive is not None:
                found.append(Observed(service or files.unknown(name), MARKER, up=alive is not None))
        return found

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        failures = []
        for change in changes:
            service = change.resource
            assert isinstance(service, Service)
            try:
                if change.after is None:
                    self._stop(service.name)
                else:
                    self._tell(service)
            except OSError as error:
                failures.append(failure(change, error))
            self._follow(service.name, self._process(service.name))
        return failures

    def _tell(self, service: Service) -> None:
        """Make a daemon run with a configuration. If it refuses the configuration, the running daemon is left alone."""
        name, paths = service.name, self._paths(service.name)
        if files.told(paths, name) == service and self._process(name) is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check(service)
        before = set(files.told_of(paths)[1])
        files.write(service, paths)
        if not (reloads(name) and self._signal(name, signal.SIGHUP)):
            self._end(name)
            self._start(name)
        for gone in before - {file.name for file in service.files or ()}:
            paths.files.joinpath(gone).unlink(missing_ok=True)
        files.note(service, paths)

    def _check(self, service: Service) -> None:
        """Test a configuration and all its files with the daemon's own check. Raises OSError with its text."""
        name, program = service.name, PROGRAMS[service.name]
        new = Paths(self._folder, f"{service.name}.new")
        try:
            files.write(service, new)
            code, said = self._run(name, *program.check, str(new.path("conf")))
        finally:
            files.remove(new)
        if code:
            raise OSError(errno.EINVAL, f"{name} refuses its configuration: {_first(said, code)}")

    def _start(self, name: Daemon) -> None:
        program, paths = PROGRAMS[name], self._paths(name)
        pid, ready, log = (paths.path(ending) for ending in ("pid", "ready", "log"))
        for old in [ready, *self._folder.glob(f"{name}.pid*")]:
            old.unlink(missing_ok=True)  # it would not start if an old file names an existing process
        # With our file as the last word, by which `_process` recognises the daemon.
        words = [*(word.format(pid=pid, ready=ready) for word in program.run), str(paths.path("conf"))]
        said_before = files.size(log)
        with Starting(self._folder) as starting:
            if program.ready is None:
                code, said = self._run(name, *words)
                if code:
                    raise OSError(errno.EINVAL, f"{name} refuses its configuration: {_first(said, code)}")
                started: Ready = Runs(lambda: self._process(name))
            else:
                _needs(name)
                launch.start([name, *words], program.limits, pid, log, SECONDS, self._aside)
                started = program.ready(paths)
            with self._aside():
                is_ready = starting.wait(started, lambda: files.number(pid), SECONDS)
        if is_ready:
            return
        lines = files.tail(log, files.size(log) - said_before).strip().splitlines()
        why = lines[-1] if lines else "the system's log says why"
        if self._process(name) is not None:
            self._end(name)  # it would hold resources that the next one needs
            raise OSError(errno.ETIMEDOUT, f"{name} was not ready within {SECONDS:g} s: {why}")
        raise OSError(errno.EIO, f"{name} ended as soon as it was started: {why}")

    def _run(self, name: Daemon, *words: str) -> tuple[int, str]:
        """Run a command of a daemon to its end. Raises OSError."""
        _needs(name)
        return launch.run([name, *words], PROGRAMS[name].limits, SECONDS, self._aside)

    def _stop(self, name: Daemon) -> None:
        """End a daemon, however long it takes to shut down, and remove its files."""
        self._end(name)
        files.remove(self._paths(name))

    def _end(self, name: Daemon) -> None:
        self._follow(name, None)
        with self._handle(name) as handle:
            if handle is None:
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                with self._aside():
                    if ended(handle, SECONDS):
                        return
        raise OSError(errno.ETIMEDOUT, f"{name} does not end")

    def _signal(self, name: Daemon, number: signal.Signals) -> bool:
        """Send a signal. Returns whether there was a process."""
        with self._handle(name) as handle:
            if handle is None:
                return False
            signal.pidfd_send_signal(handle, number)
            return True

    @contextmanager
    def _handle(self, name: Daemon) -> Iterator[int | None]:
        """A descriptor of the daemon's process, which stays with it even if the id is reused; None if none runs."""
        pid = self._process(name)
        with opened(pid) as handle:
            yield handle if self._process(name) == pid else None

    def _process(self, name: str) -> int | None:
        """The process id of our daemon, if it is alive."""
        paths = self._paths(name)
        pid = files.number(paths.path("pid"))
        if pid is None:
            return None
        process = Path("/proc") / str(pid)
        try:
            program = process.joinpath("exe").readlink().name.removesuffix(" (deleted)")
            words = process.joinpath("cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        return pid if program == name and os.fsencode(paths.path("conf")) in words else None

    def _follow(self, name: Daemon, pid: int | None) -> None:
        if self._ends is not None:
            self._ends.follow(name, pid)

    def _paths(self, name: str) -> Paths:
        return Paths(self._folder, name)


def _needs(name: Daemon) -> None:
    if not launch.installed(name):
        raise OSError(errno.ENOENT, f"{name} is not installed: apt install {PROGRAMS[name].package}")


def _first(said: str, code: int) -> str:
    return "; ".join(said.splitlines()[:_WORDS]) or f"exit code {code}"
