"""A bare mirror of one branch. Nothing is checked out: a commit's files are read as blobs."""

from __future__ import annotations

import base64
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reconciler.base.errors import Stalled, Transient
from reconciler.sources.compile import Blob, FileKind
from schema.input import is_input, is_refused

if TYPE_CHECKING:
    from git.cmd import Git

MAX_TOTAL = 64 << 20
"""Maximum bytes of all files that are read from one commit."""
MAX_FILES = 20_000
MAX_PACK = 1 << 30
"""Maximum bytes that git may write into one file, as a server could send without end."""
_DAMAGED = ("not a git repository", "corrupt", "bad object", "unable to read", "invalid object", "missing blob")
_SETTINGS = [
    *("-c", "gc.autoDetach=false", "-c", "core.hooksPath=/dev/null"),
    *("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30"),
]
"""No background work, no hooks, and no server that keeps a connection open without sending."""
_REAL_HISTORY = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": "/dev/null"}
"""The history as it was hashed: no replacements, no grafts."""
_KINDS: dict[str, FileKind] = {"120000": "symlink", "160000": "submodule"}


@dataclass(frozen=True, slots=True)
class Remote:
    """What to fetch, and with which credentials. The paths are of files on this host. Times are in seconds."""

    url: str
    branch: str = "main"
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    token_file: Path | None = None
    timeout: float = 60.0
    connect_timeout: int = 10


class Clone:
    """The repository in `folder`. It is created at first use, and again if it is damaged."""

    def __init__(self, folder: Path, remote: Remote) -> None:
        self.folder = folder
        self.remote = remote
        self.name = PurePosixPath(urlsplit(remote.url).path or remote.url.rpartition(":")[2]).stem

    def fetch(self) -> str:
        """Fetch, and return the branch's newest commit. Raises Transient or Stalled (Fetched)."""
        environment = self._environment()
        try:
            return self._fetch(environment)
        except Transient as error:
            if not any(word in error.message for word in _DAMAGED):
                raise
        shutil.rmtree(self.folder, ignore_errors=True)
        return self._fetch(environment)

    @property
    def server(self) -> str:
        """The address or name of the remote's host; empty for a folder on this host."""
        url = self.remote.url
        if "://" in url:
            return urlsplit(url).hostname or ""
        host, colon, _ = url.partition(":")
        return host.rpartition("@")[2] if colon and "/" not in host else ""

    def reachable(self, seconds: float) -> bool:
        """Whether the server answers within `seconds`."""
        ref = f"refs/heads/{self.remote.branch}"
        try:
            self._git(["ls-remote", "--quiet", "--", self.remote.url, ref], self._environment(), seconds)
        except Transient:
            return False
        return True

    def read(self, commit: str, path: str = "") -> dict[str, Blob]:
        """The compiler's input files of a commit, by path below `path`. Raises Stalled or Transient (Compiled)."""
        try:
            entries = [entry for entry in self._list(commit, path) if _counts(entry[0], entry[1])]
        except Transient as error:
            if path and "Not a valid object name" in error.message:
                raise Stalled("Compiled", "NoFolder", f"there is no folder {path} in {commit[:7]}") from None
            raise
        if len(entries) > MAX_FILES or sum(size for _, _, _, size in entries) > MAX_TOTAL:
            raise Stalled("Compiled", "TooLarge", f"{commit[:7]} holds more than {MAX_TOTAL >> 20} MiB of input")
        contents = self._contents([oid for _, kind, oid, _ in entries if kind != "submodule"])
        return {name: Blob(contents.get(oid, b""), kind) for name, kind, oid, _ in entries}

    def raw_commit(self, commit: str) -> bytes:
        """A commit object as it was hashed. Raises Transient (Verified)."""
        return self._git(["cat-file", "commit", commit], _REAL_HISTORY, 30.0, "Verified")

    def descends(self, commit: str, base: str) -> bool:
        """Whether `base` is an ancestor of `commit`; False if `base` does not exist."""
        try:
            found = self._git(["rev-list", "--max-count=1", base, f"^{commit}"], _REAL_HISTORY, 60.0, "Verified")
        except Transient:
            return False
        return not found.strip()

    def between(self, base: str, commit: str, first_parent: bool) -> list[str]:
        """The commits since `base`, newest first. Raises Transient (Verified)."""
        options = ["--first-parent"] if first_parent else []
        found = self._git(["rev-list", *options, commit, f"^{base}"], _REAL_HISTORY, 60.0, "Verified")
        return found.decode().split()

    def read_file(self, commit: str, path: str) -> bytes | None:
        """One file of a commit; None if missing. Raises Stalled or Transient (Compiled)."""
        folder, _, name = path.rpartition("/")
        try:
            entries = self._list(commit, folder)
        except Transient:
            return None
        for found, kind, oid, size in entries:
            if found == name and kind == "file":
                if size > MAX_TOTAL:
                    raise Stalled("Compiled", "TooLarge", f"{path} is larger than {MAX_TOTAL >> 20} MiB")
                return self._contents([oid])[oid]
        return None

    def _fetch(self, environment: dict[str, str]) -> str:
        if not (self.folder / "HEAD").exists():
            self._git(["init", "--quiet", "--bare", str(self.folder)], {}, 30.0)
        ref = f"refs/gitwan/{self.remote.branch}"
        options = ["--quiet", "--force", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
        refspec = f"+refs/heads/{self.remote.branch}:{ref}"
        self._git(["fetch", *options, "--", self.remote.url, refspec], environment, self.remote.timeout)
        return self._git(["rev-parse", "--verify", f"{ref}^{{commit}}"], {}, 30.0).decode().strip()

    def _list(self, commit: str, path: str) -> list[tuple[str, FileKind, str, int]]:
        """Name below `path`, kind, object id and size of every file."""
        where = path.strip("/")
        output = self._git(["ls-tree", "-r", "-z", "-l", f"{commit}:{where}"], {}, 30.0, "Compiled")
        found = []
        for line in filter(None, output.split(b"\0")):
            words, _, name = line.partition(b"\t")
            mode, _, oid, size = words.decode().split()
            if size == "BAD":
                raise Transient("Compiled", "MirrorDamaged", f"object {oid} is missing")
            kind = _KINDS.get(mode, "file")
            found.append((name.decode(errors="replace"), kind, oid, int(size) if size != "-" else 0))
        return found

    def _contents(self, oids: list[str]) -> dict[str, bytes]:
        with tempfile.TemporaryFile() as wanted:
            wanted.write("".join(f"{oid}\n" for oid in oids).encode())
            wanted.seek(0)
            output = self._git(["cat-file", "--batch"], {}, 60.0, "Compiled", wanted.fileno())
        contents: dict[str, bytes] = {}
        position = 0
        while position < len(output):
            end = output.index(b"\n", position)
            oid, *words = output[position:end].decode().split()
            if len(words) != 2:
                raise Transient("Compiled", "MirrorDamaged", f"object {oid} is missing")
            size = int(words[1])
            contents[oid] = output[end + 1 : end + 1 + size]
            position = end + 2 + size
        return contents

    def _git(
        self,
        arguments: list[str],
        environment: dict[str, str],
        timeout: float,
        condition: str = "Fetched",
        stdin: int | None = None,
    ) -> bytes:
        """Run git on the mirror, for at most `timeout` seconds. Returns its standard output. Raises Transient."""
        command = ["prlimit", f"--fsize={MAX_PACK}", "git", f"--git-dir={self.folder}", *_SETTINGS]
        runner = _runner(self.folder.parent)
        deadline = time.monotonic() + timeout
        status, output, errors = runner.execute(
            [*command, *arguments],
            istream=stdin,
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
            kill_after_timeout=timeout,
            env={"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:ssh:https:http", **environment},
            start_new_session=True,
        )
        if status and time.monotonic() >= deadline:
            # The library sometimes reports its kill too late: the process ends before the kill is noted.
            raise _failed(condition, "Timeout", f"git {arguments[0]}: no answer within {timeout:g} s")
        if status:
            said = errors if isinstance(errors, str) else bytes(errors).decode(errors="replace")
            raise _explain(condition, arguments[0], said)
        assert isinstance(output, bytes)
        return output

    def _environment(self) -> dict[str, str]:
        """git's authentication, by environment, so that no secret is on a command line or in a configuration."""
        remote = self.remote
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={remote.connect_timeout}"]
        ssh += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
        if remote.ssh_key:
            ssh += ["-F", "none", "-i", str(remote.ssh_key), "-o", "IdentitiesOnly=yes"]
        if remote.known_hosts:
            ssh += ["-o", f"UserKnownHostsFile={remote.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
        environment = {"GIT_SSH_COMMAND": shlex.join(ssh), "GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false"}
        if remote.token_file:
            environment |= self._token(remote.token_file)
        return environment

    def _token(self, path: Path) -> dict[str, str]:
        try:
            token = path.read_text().strip()
        except OSError as error:
            raise Transient("Fetched", "TokenUnreadable", f"cannot read {path}: {error.strerror}") from error
        parts = urlsplit(self.remote.url)
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        return {
            "GIT_CONFIG_COUNT": "1",
            # Only for this server: a redirect to another one does not take the token along.
            "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        }


def _counts(path: str, kind: FileKind) -> bool:
    """Whether the compiler must know of an entry, to read it or to refuse it."""
    return is_input(path) if kind == "file" else is_refused(path, kind)


def _runner(folder: Path) -> Git:
    from git.cmd import Git  # here, because it costs 70 ms and 8 MB, which a host with a folder of rendered plans saves

    return Git(folder)


def _explain(condition: str, verb: str, said: str) -> Transient:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for mark in ("fatal:", "error:") for line in lines if line.startswith(mark)]
    text = (marked or lines[-1:] or ["no message"])[0]
    reason = "GitFailed"
    for words, name in (
        ("couldn't find remote ref", "NoBranch"),
        ("Permission denied", "AccessDenied"),
        ("Authentication failed", "AccessDenied"),
        ("could not read Username", "AccessDenied"),
        ("Host key verification failed", "HostKeyUnknown"),
        ("No space left on device", "DiskFull"),
        ("File too large", "TooLarge"),
        ("signal 25", "TooLarge"),
    ):
        if words in said:
            reason = name
    if reason == "TooLarge":
        text = f"the server sends more than {MAX_PACK >> 20} MiB"
    if reason == "AccessDenied":
        text = f"the server refused access ({text})"
    return _failed(condition, reason, f"git {verb}: {text[:300]}")


def _failed(condition: str, reason: str, message: str) -> Transient:
    return Transient(condition, reason, message)
