"""Plants mistakes in copies of the tree, and runs the tests there until the first that fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from tests.mutants.plant import Mutant
from tests.mutants.table import ROOT, Row

Result = TypeVar("Result")
COPIED = (
    "schema", "compiler", "reconciler", "lab", "bench", "tests", "sites", "docs", "deploy", "gitwan.py",
    "pyproject.toml", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile",
)  # fmt: skip
SLOWER, SPARE = 5, 30.0
"""A run may take so many times as long as without a mistake, and so many seconds more: what hangs is caught."""
MEMORY = 2 << 30
"""Bytes that a process may have: a loop that does not end often collects something."""
OPTIONS = ("-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "tests.mutants.quick", "--timeout", "120")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant."""

    mutant: Mutant
    caught: bool
    by: str
    """The first test that failed, or what else ended the run."""
    seconds: float


class Copy:
    """A tree of its own, in which one module at a time is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: subprocess.Popen[bytes] | None = None
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "out", ".hypothesis")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored, symlinks=True)
            elif source.exists():
                shutil.copy2(source, folder / name)

    def tried(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> Outcome:
        """Whether these tests notice it."""
        there = self.folder / mutant.module
        original = there.read_text()
        self._write(there, mutant.text)
        try:
            started = time.monotonic()
            by = self.run(tests, seconds)
            return Outcome(mutant, by != "", by, time.monotonic() - started)
        finally:
            self._write(there, original)

    def run(self, tests: Sequence[str], seconds: float) -> str:
        """The first test that fails, or how else the run ended; nothing where all pass."""
        command = ["prlimit", f"--data={MEMORY}", sys.executable, "-m", "pytest", *OPTIONS, *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONHASHSEED": "0"}
        with tempfile.TemporaryFile() as said:
            process = self._running = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=said, stderr=said, start_new_session=True
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                return "no end in time"
            finally:
                _end(process)
            said.seek(0)
            return "" if code == 0 else _first_failure(said.read().decode(errors="replace"), code)

    def end(self) -> None:
        """What runs here has to go."""
        if self._running is not None:
            _end(self._running)

    def _write(self, path: Path, text: str) -> None:
        """Bytecode is taken for fresh by size and second: it goes with the text."""
        path.write_text(text)
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that the tests have started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _first_failure(said: str, code: int) -> str:
    for line in said.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0].rpartition("/")[2]
    return f"pytest ended with {code}"


class Unsound(Exception):  # noqa: N818 - a state of affairs
    """The tests fail without any mistake."""


def judge(
    planted: Iterable[tuple[Row, Sequence[Mutant]]],
    jobs: int,
    told: Callable[[Outcome], None],
    privileged: bool = os.geteuid() == 0,
) -> list[Outcome]:
    """Try them all, in so many copies at once. Raises Unsound."""
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="gitwan-mutants-") as folder, _Copies(Path(folder), jobs) as copies:
        for row, mutants in planted:
            if not mutants:
                continue
            tests = row.tests(privileged)
            limit = SPARE + SLOWER * _sound(copies, row, tests)
            for work in [copies.give(Copy.tried, mutant, tests, limit) for mutant in mutants]:
                outcome = work.result()
                told(outcome)
                found.append(outcome)
    return found


def _sound(copies: _Copies, row: Row, tests: Sequence[str]) -> float:
    """Seconds that the tests take without a mistake."""
    started = time.monotonic()
    failure = copies.give(Copy.run, tests, 3600.0).result()
    if failure:
        raise Unsound(f"{row.module}: {failure} fails without a mistake")
    return time.monotonic() - started


class _Copies:
    """Several copies, each of which does one thing at a time; what runs in them ends with this process."""

    def __init__(self, folder: Path, number: int) -> None:
        self._free: SimpleQueue[Copy] = SimpleQueue()
        self._all = [Copy(folder / str(n)) for n in range(number)]
        for copy in self._all:
            self._free.put(copy)
        self._pool = ThreadPoolExecutor(number)

    def __enter__(self) -> _Copies:
        self._before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for copy in self._all:
            copy.end()
        self._pool.shutdown()
        signal.signal(signal.SIGTERM, self._before)

    def give(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Something for the next copy that is free."""
        return self._pool.submit(self._in_one, work, *arguments)

    def _in_one(self, work: Callable[..., Result], *arguments: Any) -> Result:
        copy = self._free.get()
        try:
            return work(copy, *arguments)
        finally:
            self._free.put(copy)
