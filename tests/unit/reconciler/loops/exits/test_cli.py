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

from reconciler.loops.exits.cli import make_app
from reconciler.loops.exits.rows import row
from reconciler.state.store import Confirmed, Store
from schema.plan import HostPlan, Runtime
from tests.unit.reconciler.loops.exits.samples import an_exit
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


def test_an_exit_that_is_not_there_is_an_error_of_the_list(agent: Agent) -> None:
    agent.says = {"ok": False, "error": "there is no exit typo, but pia"}
    found = agent.run("list", "--exit", "typo")
    assert found.exit_code == 1 and found.output == "error: there is no exit typo, but pia\n"


def test_the_key_needs_no_agent_and_no_plan(agent: Agent, tmp_path: Path) -> None:
    found = agent.run("key", "vpn")
    assert found.stdout == agent.run("key", "vpn").stdout and len(found.stdout.strip()) == 44
    assert "this host has no plan yet" in found.stderr
    assert (tmp_path / "state" / "exits" / "vpn" / "private.key").exists()


@pytest.fixture
def planned(agent: Agent, tmp_path: Path) -> Agent:
    """An agent whose host has a plan with the exit `pia`."""
    store = Store(tmp_path / "state")
    store.open()
    plan = HostPlan.of("nas", [], Runtime(exits=(an_exit(),)))
    store.save_plan(plan.digest, plan.canonical())
    confirmed = Confirmed(plan.digest, "c1", 1.0)
    store.prepare(confirmed)
    store.confirm(confirmed)
    return agent


def test_the_key_of_an_exit_of_the_plan(planned: Agent) -> None:
    found = planned.run("key", "pia")
    assert found.exit_code == 0 and len(found.stdout.strip()) == 44 and not found.stderr


def test_an_exit_that_the_plan_has_not_gets_no_key(planned: Agent, tmp_path: Path) -> None:
    found = planned.run("key", "typo")
    assert found.exit_code == 1
    text = "error: there is no exit typo, but pia; for one that the plan does not have yet write --new\n"
    assert found.output == text
    assert not (tmp_path / "state" / "exits" / "typo").exists()


def test_an_exit_that_is_still_to_come_gets_one(planned: Agent) -> None:
    assert len(planned.run("key", "home", "--new").output.strip()) == 44


@pytest.mark.parametrize("name", ["../pia", "PIA", "much-too-long", ""])
def test_what_is_no_name_of_an_exit_gets_no_key(agent: Agent, tmp_path: Path, name: str) -> None:
    found = agent.run("key", name, "--new")
    assert found.exit_code == 1 and "is no name of an exit" in found.output
    assert not (tmp_path / "state").exists()
