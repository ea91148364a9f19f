"""The agent's side of its Unix socket (`control.py` is the client's side)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from reconciler.base.control import Reply

Handler = Callable[[dict[str, Any]], Awaitable[Reply]]
MAX_REQUEST = 64 << 10


async def serve(path: Path, handlers: dict[str, Handler]) -> asyncio.AbstractServer:
    """Listen on a socket that only its owner may open. Raises OSError.

    An existing socket is left from a dead agent, because the caller holds the lock of the state folder.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                line = await reader.readline()
            writer.write(json.dumps(await answer(line, handlers)).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # the client has gone or sends nonsense
        finally:
            writer.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(connected, path, limit=MAX_REQUEST)
    finally:
        os.umask(mask)


async def answer(line: bytes, handlers: dict[str, Handler]) -> Reply:
    """Answer one line."""
    try:
        request = json.loads(line)
        handler = handlers[request["command"]]
    except (ValueError, KeyError, TypeError):
        return {"ok": False, "error": "no such command"}
    return await handler(request)
