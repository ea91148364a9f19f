from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import gitwan

ROOT = Path(__file__).parents[4]


class Command:
    """The command line as people meet it: words in, exit code and text out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.out = self.err = ""

    def __call__(self, *words: object) -> int:
        self.monkeypatch.setattr("sys.argv", ["gitwan", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            gitwan.main()
        self.out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return int(end.value.code or 0)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """The example network in a git repository of its own."""
    shutil.copytree(ROOT / "sites", tmp_path / "sites")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        settings = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", tmp_path, *settings, *words], check=True)
    return tmp_path / "sites"


def test_the_example_is_valid_and_its_lock_complete(command: Command) -> None:
    assert command("validate", ROOT / "sites", "--strict") == 0
    assert command.out == "example: 6 sites, 6 hosts, 2 clients, no errors\n"
    assert command("lock", ROOT / "sites", "--check") == 0


@pytest.mark.parametrize(
    "words", [["valdate"], ["diff"], ["diff", "a", "b", "c"], ["compile", "--nonsense"], [], ["lab"]]
)
def test_a_wrong_command_line_is_an_error_and_not_a_finding_of_changes(command: Command, words: list[str]) -> None:
    assert command(*words) == 1


@pytest.mark.parametrize("words", [["--help"], ["diff", "--help"], ["agent", "--help"], ["agent", "run", "--help"]])
def test_help_is_no_error(command: Command, words: list[str]) -> None:
    assert command(*words) == 0
    assert "Usage" in command.out


def test_init_writes_a_network_that_compiles(command: Command, tmp_path: Path) -> None:
    assert command("init", tmp_path / "wan") == 0
    assert command("validate", tmp_path / "wan") == 0
    assert command("lock", tmp_path / "wan") == 0
    assert command("validate", tmp_path / "wan", "--strict") == 0
    assert (command.err, command("compile", tmp_path / "wan", "--out", tmp_path / "out")) == ("", 0)


def test_init_leaves_what_is_there_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    assert command("init", tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_problems_are_printed_with_their_places(command: Command, sites: Path) -> None:
    (sites / "home.yaml").write_text("site: home\nkind: edge\nhost: {}\n")
    assert command("validate", sites) == 1
    assert "home.yaml:3:1: error[GW010]: unknown key `host`\n   did you mean `hosts`?" in command.err
    assert command("validate", sites, "--json") == 1
    assert {p["code"] for p in json.loads(command.out)["problems"]} == {"GW010", "GW011"}


def test_compile_writes_plans_and_native_files_and_takes_away_hosts_that_went(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("compile", ROOT / "sites", "--out", out) == 0
    assert (out / "nas" / "plan.json").exists() and (out / "_clients" / "laptop.conf").exists()
    assert (out / "nas" / "wireguard" / "wg-ams-1.conf").exists()
    (out / "gone").mkdir()
    (out / "gone" / "plan.json").write_text("{}")
    assert command("compile", ROOT / "sites", "--out", out) == 0
    assert not (out / "gone").exists()


def test_compile_does_not_write_over_a_folder_of_somebody_else(command: Command, sites: Path) -> None:
    assert command("compile", sites, "--out", sites) == 1
    assert "GW073" in command.err
    assert (sites / "clients" / "laptops.yaml").exists()


def test_a_host_without_a_plan_is_an_error_that_names_those_that_have_one(command: Command, tmp_path: Path) -> None:
    assert command("compile", ROOT / "sites", "--out", tmp_path / "out", "--host", "nobody") == 1
    assert "GW070" in command.err and "ams-gw1" in command.err


def test_diff_tells_by_its_exit_code(command: Command, sites: Path) -> None:
    assert command("diff", "HEAD", "--dir", sites) == 0
    path = sites / "fabric.yaml"
    path.write_text(path.read_text().replace("tunnels: 3", "tunnels: 4"))
    assert command("diff", "HEAD", "--dir", sites) == 2
    assert "+ link       wg-fra-4" in command.out
    assert command("diff", "HEAD", "--dir", sites, "--json") == 2
    assert [host["host"] for host in json.loads(command.out)["hosts"]] == ["ams-gw1", "fra-gw1"]
    assert command("diff", "HEAD", "HEAD", "--dir", sites) == 0
    assert command("diff", "nowhere", "--dir", sites) == 1
    assert "GW072" in command.err
    path.write_text("fabric: [")
    assert command("diff", "HEAD", "--dir", sites) == 1


def test_diff_outside_a_repository_says_so(command: Command, tmp_path: Path) -> None:
    assert command("diff", "main", "--dir", tmp_path) == 1
    assert "not in a git repository" in command.err


def test_a_clients_configuration(command: Command) -> None:
    assert command("client", "laptop", "--dir", ROOT / "sites") == 0
    assert "Endpoint = 192.0.2.11:51820" in command.out
    assert command("client", "nobody", "--dir", ROOT / "sites") == 1
    assert "callserver-sg-1, laptop" in command.err


def test_a_file_that_cannot_be_read_is_a_problem(command: Command, tmp_path: Path) -> None:
    (tmp_path / "fabric.yaml").mkdir()
    assert command("validate", tmp_path) == 1
    assert command("validate", tmp_path / "nowhere") == 1
    assert "GW071" in command.err


def test_a_base_that_does_not_compile_is_an_error_and_no_empty_network(command: Command, sites: Path) -> None:
    good = (sites / "fabric.yaml").read_text()
    (sites / "fabric.yaml").write_text("fabric: [")
    settings = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", sites, *settings, "commit", "-qam", "broken"], check=True)
    (sites / "fabric.yaml").write_text(good)
    assert command("diff", "HEAD", "--dir", sites) == 1
    assert "GW074" in command.err and "GW001" in command.err
    assert command("diff", "HEAD", "--dir", sites, "--json") == 1
    assert json.loads(command.out)["problems"][0]["code"] == "GW074"


def test_a_change_of_settings_is_shown(command: Command, sites: Path) -> None:
    with (sites / "fabric.yaml").open("a") as file:
        file.write("\ndeadline: 30s\n")
    assert command("diff", "HEAD", "--dir", sites) == 2
    assert "~ settings   deadline: default -> 30.0" in command.out


def test_a_host_without_a_key_is_in_every_form_of_the_diff(command: Command, sites: Path) -> None:
    (sites / "keys" / "nas.pub").unlink()
    assert command("diff", "HEAD", "--dir", sites, "--format", "markdown") == 1
    assert "GW023" in command.out
    assert command("diff", "HEAD", "--dir", sites, "--json") == 1
    assert json.loads(command.out)["problems"][0]["code"] == "GW023"


def test_partial_plans_are_a_success_where_that_is_asked_for(command: Command, sites: Path, tmp_path: Path) -> None:
    (sites / "keys" / "nas.pub").unlink()
    assert command("compile", sites, "--out", tmp_path / "out") == 1
    assert command("compile", sites, "--out", tmp_path / "out", "--partial") == 0
    assert not (tmp_path / "out" / "nas").exists() and (tmp_path / "out" / "ams-gw1").exists()


def test_what_cannot_be_written_is_a_problem(command: Command, sites: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    assert command("compile", sites, "--out", tmp_path / "out") == 1
    assert command("init", tmp_path / "out" / "x") == 1
    assert command("schema", "--out", tmp_path / "out") == 1


def test_a_lock_that_is_no_text_is_replaced(command: Command, sites: Path) -> None:
    with (sites / "fabric.lock").open("ab") as file:
        file.write(b"# \xff\n")
    assert command("lock", sites) == 0


@pytest.mark.parametrize("kind", ["folder", "module"])
def test_a_folder_from_elsewhere_is_a_problem(command: Command, sites: Path, tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        (sites / "more").symlink_to(tmp_path)
    else:
        (sites / "more").mkdir()
        (sites / "more" / ".git").write_text("gitdir: x")
        (sites / "more" / "x.yaml").write_text("site: [")
    assert command("validate", sites) == 1
    assert ("GW006" if kind == "folder" else "GW007") in command.err
