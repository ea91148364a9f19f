from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from reconciler.cli.agent import make_app
from reconciler.cli.keys import keys
from reconciler.process import setup
from reconciler.process.reconciler import Reconciler
from reconciler.state.config import AgentConfig
from reconciler.state.store import Store
from schema.plan import HostPlan
from tests.unit.reconciler.process.test_reconciler import World
from tests.unit.reconciler.worlds import site

RUNNER = CliRunner()
keys_app = typer.Typer()
keys_app.command()(keys)
APP = make_app(["true"])


class Shell:
    """The commands, on a host with a fake kernel."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(folder)
        self.world.source.plan = lambda commit: (HostPlan.of("h1", site()), "")  # type: ignore[method-assign]
        self.config = folder / "agent.yaml"
        self.config.write_text(f"{{host: h1, source: {{git: /w}}, state: {folder}, socket: {folder}/agent.sock}}")
        monkeypatch.setattr(setup, "reconciler_of", self.reconciler_of)

    def reconciler_of(self, config: AgentConfig, store: Store, command: object, parts: object = None) -> Reconciler:
        self.world.host.store.unlock()
        self.world.start()
        return self.world.host

    def run(self, *words: str) -> tuple[int, str]:
        result = RUNNER.invoke(APP, [*words, "--config", str(self.config)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, monkeypatch)


def test_a_dry_run_shows_and_changes_nothing(shell: Shell) -> None:
    code, output = shell.run("run", "--dry-run")
    assert code == 2
    assert "+ route      10.20.0.0/16 dev wg0 metric 117" in output
    assert shell.world.kernel.operations == 0
    code, output = shell.run("run", "--dry-run", "--json")
    assert (code, len(json.loads(output)["changes"])) == (2, 5)


def test_once_then_nothing_to_do(shell: Shell) -> None:
    assert shell.run("run", "--once")[0] == 0
    code, output = shell.run("run", "--once")
    assert code == 0
    assert "0 operations: nothing to change" in output
    assert shell.run("run", "--dry-run") == (0, "nothing to change\n")


def test_once_fails_with_its_cycle(shell: Shell) -> None:
    shell.world.kernel.fail_next("route", 22, 3)
    code, output = shell.run("run", "--once", "--json")
    assert code == 1
    assert json.loads(output[output.index("{\n") :])["report"]["result"] == "rolled back"


def test_a_conflict_shows_in_a_dry_run_and_adopting_ends_it(shell: Shell) -> None:
    shell.world.kernel.add(site()[4].model_copy(update={"dev": "eth1"}), 4)
    code, output = shell.run("run", "--dry-run")
    assert code == 1
    assert "! route 10.20.0.0/16 dev wg0 metric 117: somebody else's is there" in output
    assert "run again with --yes" in shell.run("adopt")[1]
    assert shell.run("adopt", "--yes")[0] == 0
    assert shell.run("run", "--dry-run")[0] == 0


def test_removing_shows_first(shell: Shell) -> None:
    before = shell.world.kernel.snapshot()
    shell.run("run", "--once")
    code, output = shell.run("remove")
    assert code == 0 and "would remove 5" in output
    assert shell.world.kernel.stored["route"]
    assert shell.run("remove", "--yes")[0] == 0
    assert shell.world.kernel.snapshot() == before


def test_a_second_agent_is_refused(shell: Shell, tmp_path: Path) -> None:
    other = Store(tmp_path)
    other.lock()
    code, output = shell.run("run", "--once")
    other.unlock()
    assert code == 1
    assert "another agent works with" in output


def test_status_of_an_agent_that_does_not_run(shell: Shell) -> None:
    code, output = shell.run("status")
    assert code == 1 and "left no status" in output
    shell.run("run", "--once")
    code, output = shell.run("status")
    assert code == 0 and "Confirmed ✓" in output


@pytest.mark.parametrize("command", ["cycle", "retry", "notify"])
def test_nobody_to_talk_to(shell: Shell, command: str) -> None:
    code, output = shell.run(command)
    assert code == 1
    assert "no agent answers at" in output


def test_bad_settings_are_an_error(tmp_path: Path) -> None:
    result = RUNNER.invoke(APP, ["run", "--config", str(tmp_path / "none.yaml")])
    assert result.exit_code == 1
    assert "No such file" in result.output


def test_keys(tmp_path: Path) -> None:
    first = RUNNER.invoke(keys_app, ["--dir", str(tmp_path)])
    second = RUNNER.invoke(keys_app, ["--dir", str(tmp_path)])
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == second.stdout
    assert len(second.stdout.strip()) == 44
    (tmp_path / "private.key").write_text("x")
    assert RUNNER.invoke(keys_app, ["--dir", str(tmp_path)]).exit_code == 1


def test_the_command_line_starts_without_what_it_does_not_need() -> None:
    heavy = ("asyncio", "git", "prometheus_client", "pydantic", "pyroute2", "rich", "ruamel")
    program = (
        f"import sys, reconciler.cli.agent as c; c.make_app(['true']); print([m for m in {heavy} if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"


def test_every_command_helps() -> None:
    command = typer.main.get_command(APP)
    for name in ("run", "status", "notify", "cycle", "retry", "adopt", "remove"):
        assert RUNNER.invoke(APP, [name, "--help"]).exit_code == 0
    assert command


def test_suspend_and_resume_without_an_agent_are_read_by_the_next_one(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"host: h\nsource: {{plans: {tmp_path}}}\nstate: {tmp_path}/state\nsocket: {tmp_path}/s\n")
    app = make_app(["false"])
    words = ["--config", str(config)]
    done = RUNNER.invoke(app, ["suspend", "--for", "2h", "--why", "cabling", *words])
    assert done.exit_code == 0 and done.output.startswith("suspended until ")
    store = Store(tmp_path / "state")
    found = store.suspensions.current(time.time())
    assert found is not None and found.why == "cabling" and 7100 < found.until - time.time() <= 7200
    assert RUNNER.invoke(app, ["resume", *words]).exit_code == 0
    assert store.suspensions.current(time.time()) is None
    assert RUNNER.invoke(app, ["suspend", "--for", "soon", "--why", "x", *words]).exit_code == 1


def test_accept_takes_a_whole_commit_id_only(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"host: h\nsource: {{plans: {tmp_path}}}\nstate: {tmp_path}/state\nsocket: {tmp_path}/s\n")
    app = make_app(["false"])
    assert RUNNER.invoke(app, ["accept", "4f2c1d9", "--config", str(config)]).exit_code == 1
    assert RUNNER.invoke(app, ["accept", "4" * 40, "--config", str(config)]).exit_code == 0
    assert Store(tmp_path / "state").commits.accepted() == "4" * 40
