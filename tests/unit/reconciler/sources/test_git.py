from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from reconciler.base.errors import Stalled, Transient
from reconciler.sources import git as module
from reconciler.sources.git import Clone, Remote


class Origin:
    """A real repository with a working tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "wan")


@pytest.fixture
def mirror(tmp_path: Path, origin: Origin) -> Clone:
    return Clone(tmp_path / "state" / "repo.git", Remote(f"file://{origin.folder}"))


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()


def test_the_newest_commit_and_its_files(origin: Origin, mirror: Clone) -> None:
    first = origin.commit(fabric_dot_yaml="fabric: a\n", keys__nas_dot_pub="k\n", README_dot_md="no")
    assert mirror.fetch() == first
    assert {p: b.data for p, b in mirror.read(first).items()} == {"fabric.yaml": b"fabric: a\n", "keys/nas.pub": b"k\n"}
    second = origin.commit(fabric_dot_yaml="fabric: b\n")
    assert mirror.fetch() == second
    assert mirror.read(second)["fabric.yaml"].data == b"fabric: b\n"
    assert mirror.read(first)["fabric.yaml"].data == b"fabric: a\n"
    assert mirror.name == "wan"


def test_a_folder_of_the_repository(origin: Origin, mirror: Clone) -> None:
    commit = origin.commit(net__sites__a_dot_yaml="a", other__b_dot_yaml="b")
    mirror.fetch()
    assert list(mirror.read(commit, "net")) == ["sites/a.yaml"]
    with pytest.raises(Stalled, match="nowhere"):
        mirror.read(commit, "nowhere")


def test_symlinks_and_submodules_are_named_and_never_followed(origin: Origin, mirror: Clone) -> None:
    (origin.folder / "keys").mkdir()
    (origin.folder / "keys" / "evil.pub").symlink_to("/etc/shadow")
    origin.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},keys/sub")
    commit = origin.commit(fabric_dot_yaml="x")
    mirror.fetch()
    found = mirror.read(commit)
    assert found["keys/evil.pub"].kind == "symlink"
    assert found["keys/evil.pub"].data == b"/etc/shadow"


def test_a_submodule_has_no_bytes(origin: Origin, mirror: Clone) -> None:
    origin.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},keys/sub")
    origin.git("commit", "-q", "-m", "submodule")
    commit = mirror.fetch()
    assert mirror.read(commit)["keys/sub"].kind == "submodule"


def test_attributes_of_the_repository_change_nothing(origin: Origin, mirror: Clone) -> None:
    commit = origin.commit(_dot_gitattributes="* export-ignore export-subst\n", a_dot_yaml="$Format:%H$")
    mirror.fetch()
    assert mirror.read(commit)["a.yaml"].data == b"$Format:%H$"


def test_a_force_push_is_followed(origin: Origin, mirror: Clone) -> None:
    origin.commit(a_dot_yaml="1")
    origin.commit(a_dot_yaml="2")
    mirror.fetch()
    origin.git("reset", "-q", "--hard", "HEAD~1")
    assert mirror.fetch() == origin.git("rev-parse", "HEAD")


def test_a_damaged_mirror_is_made_anew(origin: Origin, mirror: Clone) -> None:
    commit = origin.commit(a_dot_yaml="1")
    mirror.fetch()
    (mirror.folder / "HEAD").write_text("nonsense")
    assert mirror.fetch() == commit


@pytest.mark.parametrize("lost", ["branch", "repository"])
def test_what_is_not_there_is_transient(origin: Origin, mirror: Clone, lost: str) -> None:
    if lost == "repository":
        mirror = Clone(mirror.folder, Remote("file:///nowhere"))
    with pytest.raises(Transient) as error:
        mirror.fetch()
    assert error.value.condition == "Fetched"
    assert error.value.reason == ("NoBranch" if lost == "branch" else "GitFailed")


def test_too_much_is_refused(origin: Origin, mirror: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = origin.commit(a_dot_yaml="x" * 100)
    mirror.fetch()
    monkeypatch.setattr(module, "MAX_TOTAL", 99)
    with pytest.raises(Stalled) as error:
        mirror.read(commit)
    assert error.value.reason == "TooLarge"


def test_one_file(origin: Origin, mirror: Clone) -> None:
    commit = origin.commit(plans__h1__plan_dot_json="{}")
    mirror.fetch()
    assert mirror.read_file(commit, "plans/h1/plan.json") == b"{}"
    assert mirror.read_file(commit, "plans/h2/plan.json") is None


def test_a_token_stands_in_the_environment_only_and_for_its_server_only(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    remote = Remote("https://git.example.org/wan.git", token_file=tmp_path / "token")
    environment = Clone(tmp_path / "repo.git", remote)._environment()
    assert environment["GIT_CONFIG_KEY_0"] == "http.https://git.example.org/.extraHeader"
    assert environment["GIT_CONFIG_VALUE_0"] == "Authorization: Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"
    assert not any("s3cret" in value for value in environment.values())


def test_a_deploy_key_is_the_only_identity(tmp_path: Path) -> None:
    remote = Remote("ssh://git@h/w", ssh_key=Path("/etc/gitwan/a key"), known_hosts=Path("/etc/gitwan/known_hosts"))
    command = Clone(tmp_path / "repo.git", remote)._environment()["GIT_SSH_COMMAND"]
    for words in ("BatchMode=yes", "-i '/etc/gitwan/a key'", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes"):
        assert words in command


def test_what_is_no_plain_file_is_passed_on_to_be_refused(origin: Origin, mirror: Clone) -> None:
    (origin.folder / "keys").mkdir()
    (origin.folder / "keys" / "nas.pub").symlink_to("/etc/passwd")
    (origin.folder / "more").symlink_to("/etc")
    (origin.folder / "notes.md").symlink_to("README.md")
    commit = origin.commit(fabric_dot_yaml="fabric: a\n", README_dot_md="x")
    mirror.fetch()
    assert {path: blob.kind for path, blob in mirror.read(commit).items()} == {
        "fabric.yaml": "file",
        "keys/nas.pub": "symlink",
        "more": "symlink",
    }


def test_a_server_that_says_nothing_is_given_up(mirror: Clone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/wan.git"
        with pytest.raises(Transient) as error:
            Clone(mirror.folder, Remote(url, timeout=0.3)).fetch()
    assert (error.value.reason, error.value.message) == ("Timeout", "git fetch: no answer within 0.3 s")


def test_a_server_that_refuses_is_named(mirror: Clone) -> None:
    with pytest.raises(Transient, match="git fetch: fatal: unable to access"):
        Clone(mirror.folder, Remote("http://127.0.0.1:1/wan.git")).fetch()


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("ssh://git@git.example.org:2222/wan.git", "git.example.org"),
        ("https://[2001:db8::1]/wan.git", "2001:db8::1"),
        ("git@git.example.org:wan.git", "git.example.org"),
        ("file:///srv/wan.git", ""),
        ("/srv/wan.git", ""),
        ("/srv/a:b.git", ""),
    ],
)
def test_the_server_of_an_address(tmp_path: Path, url: str, server: str) -> None:
    assert Clone(tmp_path, Remote(url)).server == server


def test_a_server_is_reachable_or_not(origin: Origin, mirror: Clone) -> None:
    origin.commit(a_dot_yaml="x")
    assert mirror.reachable(10.0)
    assert not Clone(mirror.folder, Remote("/nowhere/wan.git")).reachable(10.0)
