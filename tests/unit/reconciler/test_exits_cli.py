"""`gitwan exits`, against an agent that answers what it is told to."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reconciler.exits_cli import make_app
from reconciler.loops.exits.status import row
from tests.unit.reconciler.loops.exits.test_status import connected

GATEWAYS = [
    {"exit": "pia", "gateway": "uk/london401", "country": "gb", "address": "198.51.100.1", "latency": 0.014,
     "cooling": False, "standing": 0, "phase": "carrying"},
    {"exit": "pia", "gateway": "fr/paris2", "country": "fr", "address": "198.51.100.2", "latency": None,
     "cooling": True, "standing": 2, "phase": None},
]  # fmt: skip


class Agent:
    """Listens on a socket, remembers what it was asked, and says the same each time."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.says: dict[str, Any] = {"ok": True, "error": "", "exits": [row(connected(), 1.0)], "gateways": GATEWAYS}
        self.config = folder / "agent.yaml"
        self.config.write_text(f"host: nas\nsource: {{plans: /x}}\nsocket: {folder}/s\nstate: {folder}/state\n")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / "s"))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as file:
                self.asked.append(json.loads(file.readline()))
                file.write(json.dumps(self.says).encode() + b"\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(make_app(), [*words, "--config", str(self.config)])


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    found = Agent(tmp_path)
    yield found
    found.close()


def test_the_list_shows_what_is_used_chosen_and_cooling(agent: Agent) -> None:
    first, second = agent.run("list").output.splitlines()
    assert first.split() == ["*", "pia", "uk/london401", "gb", "14", "ms", "pinned"]
    assert second.split() == ["pia", "fr/paris2", "fr", "-", "cools", "down"]
    assert json.loads(agent.run("list", "--json").output) == GATEWAYS


def test_status_says_it_in_a_line_and_in_its_exit_code(agent: Agent) -> None:
    found = agent.run("status")
    assert found.output == "exit pia: uk/london401 14 ms (baseline 202 ms, threshold 2.02 s, strikes 0/3)\n"
    assert found.exit_code == 0
    agent.says["exits"] = [row(connected(None, None, None), 1.0)]
    assert agent.run("status").exit_code == 1
    assert json.loads(agent.run("status", "--json").output)[0]["tunnels"][0]["strikes"] == 3


def test_orders_reach_the_agent(agent: Agent) -> None:
    assert agent.run("next", "--exit", "pia").exit_code == 0
    assert agent.run("pin", "uk/london401").exit_code == 0
    assert agent.run("pin", "--none").exit_code == 0
    assert [(one["order"], one["exit"], one.get("gateway")) for one in agent.asked] == [
        ("next", "pia", None),
        ("pin", None, "uk/london401"),
        ("pin", None, None),
    ]


def test_a_pin_names_a_gateway_or_none(agent: Agent) -> None:
    assert agent.run("pin").exit_code == 1
    assert agent.run("pin", "uk/london401", "--none").exit_code == 1
    assert agent.asked == []


def test_what_the_agent_refuses_is_an_error(agent: Agent) -> None:
    agent.says = {"ok": False, "error": "there is no exit x"}
    found = agent.run("next", "--exit", "x")
    assert found.exit_code == 1 and "there is no exit x" in found.output


def test_the_key_needs_no_agent(agent: Agent, tmp_path: Path) -> None:
    found = agent.run("key", "vpn")
    assert found.output == agent.run("key", "vpn").output and len(found.output.strip()) == 44
    assert (tmp_path / "state" / "exits" / "vpn" / "private.key").exists()
