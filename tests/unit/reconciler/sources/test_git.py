from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import threading
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


# What a server, or whoever can write into the mirror, may try


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """A program that is found before the real one, which is `$real` in its script."""
    real = shutil.which(name)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\nreal={real}\n{body}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_no_hook_runs(origin: Origin, mirror: Clone, tmp_path: Path) -> None:
    origin.commit(a_dot_yaml="1")
    mirror.fetch()
    hooks = mirror.folder / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    assert mirror.fetch() == origin.commit(a_dot_yaml="2") or mirror.fetch()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["replace", "graft"])
def test_history_is_read_as_it_was_hashed(origin: Origin, mirror: Clone, how: str) -> None:
    first, second, third = (origin.commit(a_dot_yaml=str(n)) for n in range(3))
    mirror.fetch()
    real = mirror.raw_commit(third)
    if how == "replace":
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", f"--git-dir={mirror.folder}", *identity, "replace", "--graft", third, first]
        subprocess.run(command, check=True, capture_output=True)
    else:
        (mirror.folder / "info").mkdir(exist_ok=True)
        (mirror.folder / "info" / "grafts").write_text(f"{third} {first}\n")
    assert mirror.between(first, third, False) == [third, second]
    assert mirror.descends(third, second) and not mirror.descends(second, third)
    assert mirror.raw_commit(third) == real


def test_merges_are_followed_by_their_first_parent_where_that_is_asked_for(origin: Origin, mirror: Clone) -> None:
    base = origin.commit(a_dot_yaml="1")
    origin.git("checkout", "-q", "-b", "side")
    side = origin.commit(b_dot_yaml="2")
    origin.git("checkout", "-q", "main")
    origin.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    merge = mirror.fetch()
    assert mirror.between(base, merge, True) == [merge]
    assert set(mirror.between(base, merge, False)) == {merge, side}
    assert mirror.descends(merge, side) and mirror.descends(merge, merge)
    assert not mirror.descends(merge, "1" * 40)


def test_an_address_that_looks_like_an_option_is_none(mirror: Clone, tmp_path: Path) -> None:
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    # Where the option is taken for one, the refspec is taken for the repository: there is one of that name.
    there = tmp_path / "state" / "+refs/heads/main:refs/gitwan/main"
    subprocess.run(["git", "init", "-q", "--bare", str(there)], check=True)
    for url in (f"--upload-pack={script}", "--all"):
        other = Clone(mirror.folder, Remote(url))
        with pytest.raises(Transient):
            other.fetch()
        assert not other.reachable(10.0)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", ["git", "ftp", "ext"])
def test_other_protocols_are_refused(mirror: Clone, tmp_path: Path, protocol: str) -> None:
    url = f"ext::touch {tmp_path}/ran" if protocol == "ext" else f"{protocol}://127.0.0.1:1/wan.git"
    with pytest.raises(Transient, match="not allowed"):
        Clone(mirror.folder, Remote(url)).fetch()
    assert not (tmp_path / "ran").exists()


def test_what_a_server_sends_has_an_end(origin: Origin, mirror: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    (origin.folder / "noise.yaml").write_bytes(os.urandom(1 << 20))
    origin.commit(a_dot_yaml="1")
    monkeypatch.setattr(module, "MAX_PACK", 1 << 18)
    with pytest.raises(Transient) as error:
        mirror.fetch()
    assert error.value.reason == "TooLarge"


def test_a_file_or_a_commit_that_is_too_large_is_refused_and_one_that_just_fits_is_read(
    origin: Origin, mirror: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = origin.commit(a_dot_yaml="x" * 100, b_dot_yaml="y" * 50)
    mirror.fetch()
    monkeypatch.setattr(module, "MAX_TOTAL", 100)
    assert mirror.read_file(commit, "a.yaml") == b"x" * 100
    with pytest.raises(Stalled, match="more than"):
        mirror.read(commit)
    monkeypatch.setattr(module, "MAX_TOTAL", 99)
    with pytest.raises(Stalled) as error:
        mirror.read_file(commit, "a.yaml")
    assert error.value.reason == "TooLarge"
    monkeypatch.setattr(module, "MAX_TOTAL", 150)
    monkeypatch.setattr(module, "MAX_FILES", 2)
    assert len(mirror.read(commit)) == 2
    monkeypatch.setattr(module, "MAX_FILES", 1)
    with pytest.raises(Stalled):
        mirror.read(commit)


def test_git_ends_when_its_time_is_over(mirror: Clone) -> None:
    """The server is still there, and sees the connection closed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/wan.git"
        fetching = threading.Thread(target=lambda: Clone(mirror.folder, Remote(url, timeout=0.3)).reachable(0.3))
        fetching.start()
        silent.settimeout(20)
        connection, _ = silent.accept()
        connection.settimeout(20)
        while connection.recv(65536):
            pass
        connection.close()
        fetching.join()


def test_a_server_that_trickles_is_given_up_within_a_minute(
    origin: Origin, mirror: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of git itself, with the options that the agent gives it: real ones would take half a minute."""
    names = "http.lowSpeedLimit http.lowSpeedTime gc.autoDetach"
    options = (
        'for word; do case "$word" in fetch|ls-remote|rev-parse|init|cat-file) break;; *) set -- "$@";; esac; done'
    )
    body = f"""{options}
for name in {names}; do
    "$real" "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" "$9" config --get "$name" >> {tmp_path}/$name
done
exec "$real" "$@"
"""
    fake(tmp_path, monkeypatch, "git", body)
    origin.commit(a_dot_yaml="1")
    mirror.fetch()
    limit, seconds, detach = ((tmp_path / name).read_text().split()[-1] for name in names.split())
    assert 100 <= int(limit) <= 10_000 and 5 <= int(seconds) <= 60
    assert detach == "false"


SSH = "ssh://git@h/w"


def test_ssh_asks_nobody_and_ends_a_connection_that_is_dead(tmp_path: Path) -> None:
    """What ssh itself makes of the command (`ssh -G`)."""
    found = _ssh(Remote(SSH, connect_timeout=7))
    assert (found["batchmode"], found["connecttimeout"]) == ("yes", "7")
    assert 0 < int(found["serveraliveinterval"]) * int(found["serveralivecountmax"]) <= 60
    (tmp_path / "a key").write_text("")
    known = _ssh(Remote(SSH, ssh_key=tmp_path / "a key", known_hosts=tmp_path / "known"))
    assert (known["identityfile"], known["identitiesonly"]) == (f"{tmp_path}/a key", "yes")
    assert (known["userknownhostsfile"], known["stricthostkeychecking"]) == (f"{tmp_path}/known", "true")


def _ssh(remote: Remote) -> dict[str, str]:
    environment = Clone(Path("/nowhere/repo.git"), remote)._environment()
    assert environment["GIT_ASKPASS"] == environment["SSH_ASKPASS"] == "/bin/false"
    command = [*shlex.split(environment["GIT_SSH_COMMAND"]), "-G", "h"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = {}
    for line in said.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, value)  # as ssh does: the first one counts
    return found


def test_a_token_that_cannot_be_read_is_named(tmp_path: Path, mirror: Clone) -> None:
    with pytest.raises(Transient, match="token") as error:
        Clone(mirror.folder, Remote("https://127.0.0.1:1/wan.git", token_file=tmp_path / "token")).fetch()
    assert error.value.reason == "TokenUnreadable"


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        ("fatal: couldn't find remote ref main", "NoBranch", "git init: fatal: couldn't find remote ref main"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read.", "AccessDenied", "refused access"),
        ("remote: x\nfatal: Authentication failed for 'https://h'", "AccessDenied", "Authentication failed"),
        ("fatal: could not read Username for 'https://h'", "AccessDenied", "refused access (fatal: could not read"),
        ("Host key verification failed.", "HostKeyUnknown", "git init: Host key verification failed."),
        ("error: file write error: No space left on device", "DiskFull", "error: file write error"),
        ("error: unable to write: File too large", "TooLarge", "more than 1024 MiB"),
        ("error: index-pack died of signal 25", "TooLarge", "more than 1024 MiB"),
        ("warning: first\nerror: second\nfatal: third", "GitFailed", "git init: fatal: third"),
        ("one\ntwo", "GitFailed", "git init: two"),
        ("", "GitFailed", "no message"),
        (f"fatal: {'x' * 1000}", "GitFailed", f"git init: fatal: {'x' * 293}"),
    ],
)
def test_what_git_says_becomes_a_reason(
    tmp_path: Path, mirror: Clone, monkeypatch: pytest.MonkeyPatch, said: str, reason: str, words: str
) -> None:
    (tmp_path / "said").write_text(said)
    fake(tmp_path, monkeypatch, "git", f"cat {tmp_path}/said >&2; exit 128")
    with pytest.raises(Transient) as error:
        mirror.fetch()
    assert (error.value.condition, error.value.reason) == ("Fetched", reason)
    assert words in error.value.message and len(error.value.message) <= 350


@pytest.mark.parametrize("words", ["corrupt", "bad object", "unable to read tree", "not a git repository"])
def test_a_mirror_is_made_anew_once_and_not_again(
    tmp_path: Path, mirror: Clone, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    fake(tmp_path, monkeypatch, "git", f"echo x >> {tmp_path}/calls; echo 'fatal: {words}' >&2; exit 128")
    mirror.folder.mkdir()
    (mirror.folder / "HEAD").write_text("")
    with pytest.raises(Transient, match=words):
        mirror.fetch()
    assert not mirror.folder.exists() and (tmp_path / "calls").read_text() == "x\nx\n"


def test_a_missing_object_is_named_and_never_empty(origin: Origin, mirror: Clone) -> None:
    commit = origin.commit(a_dot_yaml="some text", b_dot_yaml="more")
    mirror.fetch()
    oid = origin.git("rev-parse", f"{commit}:a.yaml")
    (mirror.folder / "objects" / oid[:2] / oid[2:]).unlink()
    for reading in (lambda: mirror.read(commit), lambda: mirror._contents([oid])):
        with pytest.raises(Transient, match=oid) as error:
            reading()
        assert (error.value.condition, error.value.reason) == ("Compiled", "MirrorDamaged")
    assert mirror.read_file(commit, "a.yaml") is None


def test_an_interrupt_at_the_agents_terminal_reaches_no_git(
    origin: Origin, mirror: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a session of its own: half a pack would be left where it is killed in the middle."""
    fake(
        tmp_path,
        monkeypatch,
        "git",
        f'case "$*" in *--git-dir*) ps -o sid= -p $$ >> {tmp_path}/sessions;; esac; exec "$real" "$@"',
    )
    commit = Origin.commit(origin, a_dot_yaml="1")
    assert mirror.fetch() == commit
    mirror.read(commit)
    assert os.getsid(0) not in {int(session) for session in (tmp_path / "sessions").read_text().split()}
