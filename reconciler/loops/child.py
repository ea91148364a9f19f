"""Runs a child process of the agent, for work that is heavy or must not wait for Python's lock.

The child exchanges lines of JSON on its standard input and output, has limits, ends with the agent, and is restarted
after it dies. It has its own session, so that a Ctrl-C for the agent does not reach it, and it does not have the
agent's supplementary group, which bypasses the kill switch.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from reconciler.system import agent_group
from reconciler.system.launch import Limits, limited

PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
"""The environment of a child."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a dead child is restarted; doubled each time, unless the child lived longer than the pause."""
GRACE = 2.0
"""Seconds for a child to end by itself after its input is closed."""
LINE = 16 << 20
"""Maximum bytes of a line."""

_END_WITH_AGENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""util-linux sets this, because a function between fork and exec could wait forever for another thread's lock."""

JsonObject = dict[str, Any]


class Child:
    """One process, from its first start until its loop ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        heard: Callable[[JsonObject], None],
        *,
        began: Callable[[], Awaitable[None]] | None = None,
        say: Callable[[str, str], None] = lambda level, text: None,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`heard` is called with each message, in the event loop. `began` is awaited after each start, because a new
        child knows nothing. `say` writes to the log."""
        self.name = name
        self._command = list(command)
        self._heard = heard
        self._began = began
        self._say = say
        self._limits = limits or Limits()
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The id of the current process."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep the process running until cancelled, then end it."""
        clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE
        while True:
            started = clock()
            try:
                why = await self._live()
            except OSError as error:
                why = f"cannot be started: {error.strerror}"
            if clock() - started > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._say("error", f"{self.name} {why}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    async def send(self, message: JsonObject) -> bool:
        """Send a message. Returns whether a process received it."""
        process = self._process
        if process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            await process.stdin.drain()
        except (ConnectionError, RuntimeError):
            return False  # it has just died; the next process gets what it needs from `began`
        return True

    async def _live(self) -> str:
        """Run the process once. Returns the reason why it ended."""
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | self._environment
        process = await asyncio.create_subprocess_exec(
            *limited(self._limits),
            *_END_WITH_AGENT,
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
            env=environment,
            extra_groups=agent_group.others(),
            start_new_session=True,
            limit=LINE,
        )
        self._process, self.starts = process, self.starts + 1
        try:
            if self._began is not None:
                await self._began()
            await self._listen(process)
            code = await process.wait()
        finally:
            self._process = None
            await _end(process)
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                self._say("error", f"{self.name} says more than {LINE >> 20} MiB in one line")
                return
            if not line:
                return
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if isinstance(message, dict):
                self._heard(message)
            else:
                self._say("error", f"{self.name} says what is no message: {line[:80].decode(errors='replace').strip()}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the input of the process, which tells it to end, and make sure that it does."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(TimeoutError, ProcessLookupError):
        async with asyncio.timeout(GRACE):
            await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
