"""Daemons of the host that run with our configuration, one of each in a state folder.

NAME.conf   the configuration, written whole after the daemon itself has found it good
NAME.told   the digest of what the running daemon was told last
NAME.pid    the daemon's own pid file
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from reconciler.files import write_atomic
from reconciler.kinds.base import Failure, Observed
from reconciler.kinds.service import MARKER
from reconciler.system.failure import failure
from schema.plan import Change, Service
from schema.plan.service import Daemon

SECONDS = 5.0
"""How long a daemon may take to check, to start or to end."""
STEP = 0.01
_WORDS = 3
"""Lines of a complaint that are shown."""


@dataclass(frozen=True, slots=True)
class _Program:
    """How a daemon is told to check a file, and to run in the background with one."""

    check: tuple[str, ...]
    run: tuple[str, ...]


_PROGRAMS: dict[Daemon, _Program] = {
    "keepalived": _Program(("-t", "-f"), ("-P", "-p", "{pid}", "-r", "{pid}.vrrp", "-f")),
    "radvd": _Program(("-c", "-C"), ("-m", "syslog", "-p", "{pid}", "-C")),
}


class ServiceDriver:
    """A process is ours if our pid file names it, it is the right program, and our file stands on its command line.

    They are no children of the agent, and stay when it ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def observe(self) -> list[Observed[Service]]:
        found = []
        for name in _PROGRAMS:
            config = self._told(name)
            alive = self._process(name) is not None
            if config is not None or alive:
                service = Service.model_construct(None, kind="service", name=name, config=config or "")
                found.append(Observed(service, MARKER, up=alive))
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
        return failures

    def _tell(self, service: Service) -> None:
        """Bring a daemon to run with a configuration. One that it refuses leaves the running one alone."""
        name = service.name
        if self._told(name) == service.config and self._process(name) is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = service.config.encode()
        new = self._path(name, "new")
        write_atomic(new, data)
        try:
            _run(name, *_PROGRAMS[name].check, str(new))
            new.replace(self._path(name, "conf"))
        finally:
            new.unlink(missing_ok=True)
        if not self._signal(name, signal.SIGHUP):
            self._start(name)
        write_atomic(self._path(name, "told"), _digest(data).encode())

    def _start(self, name: Daemon) -> None:
        pid, conf = self._path(name, "pid"), self._path(name, "conf")
        for old in self._folder.glob(f"{name}.pid*"):
            old.unlink()  # it would not start where one names a process that is there
        # With our file as the last word, by which `_process` knows the daemon again.
        _run(name, *(word.format(pid=pid) for word in _PROGRAMS[name].run), str(conf))
        end = time.monotonic() + SECONDS
        while self._process(name) is None:  # it writes its pid file after the command has ended
            if time.monotonic() > end:
                raise OSError(errno.EIO, f"{name} ended as soon as it was started: the system's log says why")
            time.sleep(STEP)

    def _stop(self, name: str) -> None:
        """End a daemon, however long it takes to say goodbye, and remove its files."""
        with self._handle(name) as handle:
            if handle is not None:
                ended = False
                for number in (signal.SIGTERM, signal.SIGKILL):
                    signal.pidfd_send_signal(handle, number)
                    if ended := _ended(handle, SECONDS):
                        break
                if not ended:
                    raise OSError(errno.ETIMEDOUT, f"{name} does not end")
        for path in self._folder.glob(f"{name}.*"):
            path.unlink(missing_ok=True)

    def _signal(self, name: str, number: signal.Signals) -> bool:
        """Whether there was a process to tell."""
        with self._handle(name) as handle:
            if handle is None:
                return False
            signal.pidfd_send_signal(handle, number)
            return True

    @contextmanager
    def _handle(self, name: str) -> Iterator[int | None]:
        """A descriptor of the daemon's process, which no other can come to stand for; None where none runs."""
        pid = self._process(name)
        try:
            handle = None if pid is None else os.pidfd_open(pid)
        except ProcessLookupError:
            handle = None
        try:
            yield handle if self._process(name) == pid else None
        finally:
            if handle is not None:
                os.close(handle)

    def _process(self, name: str) -> int | None:
        """The process of a daemon of ours, if it lives."""
        try:
            pid = int(self._path(name, "pid").read_text())
            process = Path("/proc") / str(pid)
            program = process.joinpath("exe").readlink().name.removesuffix(" (deleted)")
            words = process.joinpath("cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if program == name and os.fsencode(self._path(name, "conf")) in words else None

    def _told(self, name: str) -> str | None:
        """What a daemon was told last; nothing where the file is another by now; None where it was told nothing."""
        try:
            data = self._path(name, "conf").read_bytes()
        except FileNotFoundError:
            return None
        try:
            told = self._path(name, "told").read_text()
        except FileNotFoundError:
            told = ""
        return data.decode(errors="replace") if told == _digest(data) else ""

    def _path(self, name: str, ending: str) -> Path:
        return self._folder / f"{name}.{ending}"


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _ended(handle: int, seconds: float) -> bool:
    """Whether a process has ended within a time."""
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _run(program: str, *words: str) -> None:
    """Run a command of a daemon to its end. Raises OSError with the daemon's words."""
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    # No pipe: what stays in the background would hold it open.
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                [program, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                start_new_session=True,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise OSError(errno.ENOENT, f"{program} is not installed: apt install {program}") from None
        except subprocess.TimeoutExpired:
            raise OSError(errno.ETIMEDOUT, f"{program} {words[0]} does not end") from None
        if done.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            text = "; ".join(said[:_WORDS]) or f"exit code {done.returncode}"
            raise OSError(errno.EINVAL, f"{program} refuses its configuration: {text}")
