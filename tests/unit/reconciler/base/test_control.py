from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from reconciler.base.control import Unreachable, call, main, notify
from reconciler.process.server import answer, serve


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "said": request}


HANDLERS = {"status": echo, "notify": echo}


def test_a_command_and_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.sock"

    async def run() -> dict[str, Any]:
        server = await serve(path, HANDLERS)
        async with server:
            assert path.stat().st_mode & 0o777 == 0o600
            return await asyncio.to_thread(call, str(path), "status", 10.0, yes=True)

    assert asyncio.run(run()) == {"ok": True, "said": {"command": "status", "yes": True}}


def test_a_socket_that_a_dead_agent_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"

    async def run() -> list[str]:
        first = await serve(path, HANDLERS)
        first.close()
        path.touch()
        async with await serve(path, HANDLERS):
            return await asyncio.to_thread(notify, [str(path)])

    assert asyncio.run(run()) == []


@pytest.mark.parametrize("line", [b"", b"nonsense\n", b"[]\n", b'{"command": "format disk"}\n', b'{"command": []}\n'])
def test_nonsense_is_answered(line: bytes) -> None:
    assert asyncio.run(answer(line, HANDLERS)) == {"ok": False, "error": "no such command"}


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "agent.sock")
    with pytest.raises(Unreachable, match="no agent answers"):
        call(path, "status")
    assert main(["notify", path]) == 1
    assert "no agent answers" in capsys.readouterr().err
    assert main([]) == 1


def test_an_agent_that_ends_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_unix_server(hang_up, path):
            with pytest.raises(Unreachable, match="before it answered"):
                await asyncio.to_thread(call, str(path), "status")

    asyncio.run(run())
