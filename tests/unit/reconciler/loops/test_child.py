"""A process of ours: it hears, speaks, has limits, is started again, and ends with whoever started it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.loops import child as module
from reconciler.loops.child import Child
from reconciler.system.launch import Limits
from schema.plan.ranges import AGENT

ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"heard": json.loads(line)}), flush=True)
"""
FACTS = """
import json, os, resource, sys
print(json.dumps({"session": os.getsid(0), "pid": os.getpid(), "groups": os.getgroups(),
                  "memory": resource.getrlimit(resource.RLIMIT_DATA)[0],
                  "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                  "names": sorted(os.environ)}), flush=True)
sys.stdin.read()
"""
NONSENSE = "print('not json', flush=True); print('[1]', flush=True); import sys; sys.stdin.read()"


class Scene:
    """A child, what it said, and what was logged."""

    def __init__(self, program: str, **options: Any) -> None:
        self.heard: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.changed = asyncio.Event()
        self.child = Child(
            "gitwan-test", [sys.executable, "-c", program], self._hear, say=self._say, began=self._begin, **options
        )
        self.first: dict[str, Any] | None = None

    def _hear(self, message: dict[str, Any]) -> None:
        self.heard.append(message)
        self.changed.set()

    def _say(self, level: str, text: str) -> None:
        self.said.append(text)
        self.changed.set()

    async def _begin(self) -> None:
        if self.first is not None:
            await self.child.send(self.first)
        self.changed.set()

    async def until(self, there: Callable[[], bool]) -> None:
        while not there():
            await self.changed.wait()
            self.changed.clear()


def play(program: str, script: Callable[[Scene], Awaitable[None]], **options: Any) -> Scene:
    async def main() -> Scene:
        scene = Scene(program, **options)
        task = asyncio.create_task(scene.child.run())
        async with asyncio.timeout(30):
            await script(scene)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return scene

    return asyncio.run(main())


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_it_hears_what_is_said_and_is_heard() -> None:
    async def script(scene: Scene) -> None:
        await scene.until(lambda: scene.child.pid is not None)
        assert await scene.child.send({"peer": "A", "n": 1})
        await scene.until(lambda: scene.heard != [])

    assert play(ECHO, script).heard == [{"heard": {"peer": "A", "n": 1}}]


def test_it_is_in_a_session_of_its_own_with_limits_and_nobodys_groups_or_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_TOKEN", "secret")

    async def script(scene: Scene) -> None:
        await scene.until(lambda: scene.heard != [])

    (facts,) = play(FACTS, script, limits=Limits(data=99 << 20, files=77)).heard
    assert facts["session"] == facts["pid"] != os.getsid(0)
    assert (facts["memory"], facts["files"]) == (99 << 20, 77)
    assert AGENT not in facts["groups"]
    assert "GIT_TOKEN" not in facts["names"]


def test_one_that_dies_is_started_again_and_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)

    async def script(scene: Scene) -> None:
        scene.first = {"all": "of it"}
        await scene.until(lambda: scene.child.pid is not None)
        first = scene.child.pid
        assert first is not None
        os.kill(first, 9)
        await scene.until(lambda: scene.child.pid not in (None, first) and scene.heard != [])
        assert scene.child.starts == 2 and any("ended by signal 9" in text for text in scene.said)

    play(ECHO, script)


def test_it_is_gone_when_its_loop_ends_also_where_it_does_not_listen() -> None:
    pids: list[int] = []

    async def script(scene: Scene) -> None:
        await scene.until(lambda: scene.child.pid is not None)
        assert scene.child.pid is not None
        pids.append(scene.child.pid)

    play(ECHO, script)
    module_grace, module.GRACE = module.GRACE, 0.05
    try:
        play("import time; time.sleep(600)", script)
    finally:
        module.GRACE = module_grace
    assert all(gone(pid) for pid in pids)


def test_what_is_no_message_is_logged_and_passed_over() -> None:
    async def script(scene: Scene) -> None:
        await scene.until(lambda: len(scene.said) == 2)

    assert play(NONSENSE, script).heard == []


def test_a_program_that_is_not_there_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)

    async def main() -> list[str]:
        said: list[str] = []
        told = asyncio.Event()

        def say(level: str, text: str) -> None:
            said.append(text)
            if len(said) == 2:
                told.set()

        task = asyncio.create_task(Child("gitwan-test", ["/nonexistent"], lambda message: None, say=say).run())
        await told.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return said

    assert all("gitwan-test ended with exit code 127" in text for text in asyncio.run(main()))


ORPHAN = """
import asyncio, sys
from reconciler.loops.child import Child
async def main():
    child = Child("c", [sys.executable, "-c", "import time; time.sleep(600)"], lambda m: None)
    asyncio.create_task(child.run())
    while child.pid is None:
        await asyncio.sleep(0)
    print(child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_it_ends_with_an_agent_that_is_killed() -> None:
    async def main() -> None:
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ORPHAN, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[4]
        )
        assert agent.stdout is not None
        pid = int(await agent.stdout.readline())
        handle = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        agent.kill()
        await agent.wait()
        async with asyncio.timeout(10):
            await ended.wait()
        os.close(handle)

    asyncio.run(main())
