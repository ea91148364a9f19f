"""What an interrupt at the agent's terminal reaches, and what it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.system.wg_uapi import UapiBackend
from tests.contract.conftest import needs_root
from tests.namespaces import private_network

AGENT = """
import signal, sys
from reconciler.system.wg_uapi import UapiBackend
from reconciler.system.wireguard_go import start
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started this in its background has it ignored
start("wg-session", UapiBackend())
print("up", flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.root
def test_an_interrupt_of_the_agents_group_leaves_wireguard_go_alone() -> None:
    needs_root()
    with private_network():
        agent = subprocess.Popen([sys.executable, "-c", AGENT], stdout=subprocess.PIPE, text=True, process_group=0)
        assert agent.stdout is not None
        with agent:
            assert agent.stdout.readline() == "up\n"
            (tunnel,) = (pid for pid in _pids() if _words(pid) == ["wireguard-go", "wg-session"])
            assert os.getpgid(tunnel) != agent.pid and os.getsid(tunnel) != os.getsid(agent.pid)
            os.killpg(agent.pid, signal.SIGINT)
            assert agent.stdout.read() == "interrupted\n"
        assert UapiBackend().read("wg-session").name == "wg-session"
        assert _words(tunnel) == ["wireguard-go", "wg-session"]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []
