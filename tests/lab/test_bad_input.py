"""Whatever is pushed, the network goes on with the last plan, says what is wrong and where, and heals by itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.repository import git
from tests.lab.dumps import ours
from tests.lab.twin import SITES, Twin, cli, soon_nothing

pytestmark = [pytest.mark.lab, pytest.mark.root]


@dataclass(frozen=True)
class Bad:
    """What is done to the files, and where the first problem has to be found: its place and code."""

    spoil: Callable[[Path], object]
    place: str
    code: str
    left_out: str = ""
    """The only host that has no plan then; all others converge without it."""


def _append(name: str, text: str) -> Callable[[Path], object]:
    def spoil(sites: Path) -> None:
        with (sites / name).open("a") as file:
            file.write(text)

    return spoil


def _bomb(sites: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (sites / "bomb.yaml").write_text("\n".join(lines) + "\n")


def _retype(sites: Path) -> None:
    text = (sites / "ireland.yaml").read_text()
    (sites / "ireland.yaml").write_text(text.replace("aws:\n", "aws: 7\nhidden:\n"))


def _link_key(sites: Path) -> None:
    (sites / "keys/nas.pub").unlink()
    (sites / "keys/nas.pub").symlink_to("/etc/passwd")


def _empty(sites: Path) -> None:
    for path in sites.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (sites / "README").write_text("nothing is left\n")  # git keeps no empty folder


BAD = {
    "unreadable YAML": Bad(_append("ams.yaml", "hosts: [\n"), "ams.yaml:", "GW001"),
    "a duplicate key": Bad(_append("fra.yaml", "kind: datacenter\n"), "fra.yaml:", "GW002"),
    "a wrong type": Bad(_retype, "ireland.yaml:5:6:", "GW013"),
    "an unknown key": Bad(_append("home.yaml", "hostz: {}\n"), "home.yaml:", "GW010"),
    "a cyclic anchor": Bad(_append("clients/laptops.yaml", "loop: &loop [*loop]\n"), "clients/laptops.yaml:", "GW004"),
    "an alias bomb": Bad(_bomb, "bomb.yaml:", "GW004"),
    "a file that is not UTF-8": Bad(
        lambda sites: (sites / "fra.yaml").write_bytes(b"site: fra\n# caf\xe9\n"), "fra.yaml:2:", "GW003"
    ),
    "an emptied repository": Bad(_empty, "fabric.yaml", "GW014"),
    "a missing key file": Bad(lambda sites: (sites / "keys/nas.pub").unlink(), "keys/nas.pub", "GW023", "nas"),
    "a key that is not a key": Bad(
        lambda sites: (sites / "keys/nas.pub").write_text("not a key\n"), "keys/nas.pub:1:1:", "GW024"
    ),
    "a symlink out of the repository": Bad(_link_key, "keys/nas.pub", "GW006"),
    "a line of 1 MB": Bad(_append("ams.yaml", "# " + "x" * (1 << 20) + "\n"), "ams.yaml:", "GW005"),
}
LOOKED_AT = {"nas", "fra-gw1"}
"""The hosts whose kernel is compared; all are asked how they are."""
SAMPLE = 5
"""Every so many are shown to agents in `make test`, all of them in `make drill`."""


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A copy of the example repository."""
    return Path(shutil.copytree(SITES, tmp_path / "sites"))


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_validate_says_where_and_what(sites: Path, bad: Bad) -> None:
    bad.spoil(sites)
    done = cli("validate", str(sites))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert any(bad.place in line and f"error[{bad.code}" in line for line in said.splitlines()), said
    assert "Traceback" not in said


@pytest.fixture
def healed(twin: Twin) -> Iterator[None]:
    """The next good commit makes everything well again."""
    yield
    twin.converged(twin.bring_back(twin.first))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=name, marks=[pytest.mark.drill] if n % SAMPLE else [])
        for n, (name, bad) in enumerate(BAD.items())
    ],
)
def test_agents_keep_the_last_plan_running_and_show_the_problem(twin: Twin, bad: Bad, healed: None) -> None:
    before, last = {host: ours(twin, host) for host in LOOKED_AT}, twin.head
    bad.spoil(twin.sites)
    commit = twin.push("a bad day")
    stuck = [host for host in twin.hosts if bad.left_out in ("", host)]
    soon_nothing(lambda: [text for host in stuck if (text := _not_shown(twin, host, commit, bad))])
    if bad.left_out:
        twin.converged(commit, set(twin.hosts) - {bad.left_out})
    assert {twin.status(host)["commit"] for host in stuck} == {last}
    for host in set(stuck) & LOOKED_AT:
        answer = twin.cycle(host)
        assert (answer["report"]["operations"], answer["ok"]) == (0, False)
        assert ours(twin, host) == before[host]
    code, said = twin.gitwan("nas", "status")
    assert code == 1 and bad.code in said
    assert twin.reaches(("ams-server", "10.20.0.100"), ("laptop", "10.1.1.10"), ("fra-server", "fd00:2:0:1::a")) == []


def _not_shown(twin: Twin, host: str, commit: str, bad: Bad) -> str:
    """What is missing for a host to say what is wrong with a commit; nothing where it does."""
    status = {c["type"]: c for c in twin.status(host)["conditions"]}
    fetched, compiled = status["Fetched"], status["Compiled"]
    if commit[:7] not in fetched["message"]:
        return f"{host} has not fetched it: {fetched}"
    good = compiled["status"] == "False" and bad.place in compiled["message"] and bad.code in compiled["message"]
    return "" if good else f"{host}: {compiled}"


def test_no_log_holds_a_traceback(twin: Twin) -> None:
    for host in twin.hosts:
        assert "Traceback" not in twin.log(host)
    assert git(twin.folder.work, "status", "--porcelain") == ""
    assert {name: cell.text for name, cell in twin.measure().items() if not cell.ok} == {}
