"""Recognisable secrets are planted; then everything that was written, said or could be seen is searched for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes, token_hex

import pytest

from lab.repository import git
from reconciler.base.control import Unreachable, call
from reconciler.state.keys import ensure_identity, ensure_key, read_key
from tests.lab.test_git import BASIC, TOKEN, Asked, Place, asked, place
from tests.lab.twin import eventually

__all__ = ["asked", "place"]

pytestmark = [pytest.mark.lab, pytest.mark.root]

# Others in every run: two of them at a time do not find each other's.
PSK, CLIENTS_KEY = token_bytes(32), b"\x08" + token_bytes(30) + b"\x47"
VALUE = f"c4nary-of-a-provider-{token_hex(8)}"
METRICS = 19586
FABRIC = """\
fabric: small
version: 1
links:
  - {between: [a, b], psk: between}
clients_key: roaming
"""
SITE = """\
site: %s
kind: datacenter
hosts:
  %s-gw:
    underlay: {interface: eth0, addresses: [192.0.2.%d/24]}
"""
CLIENTS = "clients:\n  laptop: {public_key: %s, gateway: a}\n"


@dataclass
class Canaries:
    """Every form in which a secret could show up: as it is, in base64, in hexadecimal, in capitals too."""

    forms: dict[bytes, str] = field(default_factory=dict)
    searched: int = 0
    """Bytes."""

    def plant(self, name: str, value: bytes, text: bytes = b"") -> None:
        for form in {value, text or value}:
            for shape in (form, b64encode(form), form.hex().encode(), form.hex().upper().encode()):
                self.forms[shape.rstrip(b"=")] = name

    def found_in(self, where: str, data: bytes) -> list[str]:
        self.searched += len(data)
        return [f"{name} in {where}" for form, name in self.forms.items() if form in data]


@dataclass
class Watching:
    """What could be seen of other processes while something ran."""

    command_lines: set[bytes] = field(default_factory=set)
    environments: set[tuple[bytes, bytes]] = field(default_factory=set)
    """Command line and environment."""

    def look(self) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
                # It may have become another program between the two, or ended.
                if words := (folder / "cmdline").read_bytes() or words:
                    self.command_lines.add(words)
                    self.environments.add((words, environment))
            except OSError:
                continue  # it ended meanwhile


@contextmanager
def watching() -> Iterator[Watching]:
    found, done = Watching(), threading.Event()

    def run() -> None:
        while not done.wait(0.005):
            found.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


class Host:
    """The place's host, its repository, and all that was said there."""

    def __init__(self, place: Place) -> None:
        self.place, self.work = place, place.folder / "work"
        self.said = b""
        self.config = str(place.folder / "agent.yaml")

    def gitwan(self, *words: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> bytes:
        command = [sys.executable, "-m", "gitwan", *words]
        environment = {**os.environ, **self.place.environment}
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment)
        self.said += done.stdout + done.stderr
        assert done.returncode in ok, (words, done.stdout + done.stderr)
        return done.stdout

    def agent(self, *words: str, ok: tuple[int, ...] = (0,)) -> bytes:
        return self.gitwan("agent", *words, "--config", self.config, ok=ok)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.work / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def push(self, message: str) -> str:
        git(self.work, "add", "-A")
        git(self.work, "commit", "-q", "-m", message)
        git(self.work, "push", "-q", str(self.place.repository), "main")
        return git(self.work, "rev-parse", "HEAD")


def planted(host: Host) -> Canaries:
    """A host with keys and an identity of its own, and a repository with secrets for it."""
    keys = host.place.folder / "keys"
    public, _ = ensure_key(keys)
    other, _ = ensure_key(host.place.folder / "b-keys")
    laptop, _ = ensure_key(host.place.folder / "laptop-keys")
    (host.work / "keys/a-gw.pub").write_text(public + "\n")
    (host.work / "keys/b-gw.pub").write_text(other + "\n")
    (host.work / "keys/a-gw.age").write_text(ensure_identity(keys) + "\n")
    (host.work / "keys/b-gw.age").write_text(ensure_identity(host.place.folder / "b-keys") + "\n")
    host.write(fabric_yaml=FABRIC, a_yaml=SITE % ("a", "a", 10), b_yaml=SITE % ("b", "b", 20))
    host.write(clients_yaml=CLIENTS % laptop)
    found = Canaries()
    found.plant("the private key", read_key(keys / "private.key"), b64encode(read_key(keys / "private.key")))
    identity = next(line for line in (keys / "age.key").read_text().splitlines() if line.startswith("AGE-"))
    found.plant("the age identity", identity.encode(), identity.removeprefix("AGE-SECRET-KEY-1").lower().encode())
    found.plant("the preshared key", PSK, b64encode(PSK))
    found.plant("the clients' key", CLIENTS_KEY, b64encode(CLIENTS_KEY))
    found.plant("a value", VALUE.encode())
    found.plant("the git token", TOKEN.encode(), b64decode(BASIC))
    return found


def cycles(host: Host) -> list[bytes]:
    """Everything that an agent is asked and does: apply, failure, rollback, drift, status, metrics."""
    answers = []
    socket = str(host.place.folder / "agent.sock")
    log = (host.place.folder / "agent.log").open("wb")
    command = [sys.executable, "-m", "gitwan", "agent", "run", "--config", host.config]
    environment = {**os.environ, **host.place.environment}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def asked_to(command: str) -> str:
        try:
            answers.append(json.dumps(call(socket, command)).encode())
        except Unreachable:
            return ""
        return answers[-1].decode()

    def until(text: str) -> None:
        eventually(lambda: text in asked_to("cycle"), 60.0, text)

    try:
        until('"reason": "Applied"')
        assert Path(f"/proc/{process.pid}/limits").read_bytes().split(b"Max core file size")[1].split()[0] == b"0"
        subprocess.run(["wg", "set", "wg-b-1", "private-key", "/dev/null"], check=True)
        subprocess.run(["ip", "link", "del", "wg-clients"], check=True)
        until('"reason": "Applied"')
        host.write(a_yaml=SITE % ("a", "a", 10) + "    lans: {eth9: [10.9.0.1/24]}\n")
        host.push("an interface that is not there")
        until("RolledBack")
        host.write(a_yaml="site: [\n")
        host.push("nonsense")
        until('"type": "Compiled", "status": "False"')
        host.write(a_yaml=SITE % ("a", "a", 10))
        host.gitwan("secret", "rotate", "between", "--generate", "-C", str(host.work))
        (host.work / "secrets/between.age").write_bytes((host.work / "secrets/for-b.age").read_bytes())
        _redigest(host)
        host.push("a secret that is not for this host")
        until("SecretUnusable")
        answers.append(urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/metrics").read())
        host.agent("status", ok=(0, 1))
        host.agent("status", "--json", ok=(0, 1))
    finally:
        process.terminate()
        process.wait()
        log.close()
    return answers


def _redigest(host: Host) -> None:
    """The clear text agrees with the ciphertext, as far as anybody can tell without decrypting it."""
    from schema.plan.fingerprint import sealed_digest

    path = host.work / "secrets/between.yaml"
    digest = sealed_digest((host.work / "secrets/between.age").read_bytes())
    lines = [f'digest: "{digest}"' if line.startswith("digest") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def test_no_canary_is_seen(place: Place, asked: Asked) -> None:
    host = Host(place)
    text = (place.folder / "agent.yaml").read_text().replace("metrics: off", f"metrics: 127.0.0.1:{METRICS}")
    (place.folder / "agent.yaml").write_text(text)
    canaries = planted(host)
    here = ("-C", str(host.work))
    with watching() as seen:
        host.gitwan("secret", "add", "between", "--kind", "psk", *here, stdin=b64encode(PSK) + b"\n")
        host.gitwan("secret", "add", "roaming", "--kind", "key", *here, stdin=b64encode(CLIENTS_KEY))
        host.gitwan("secret", "add", "provider", "--for", "a-gw", *here, stdin=VALUE.encode())
        host.gitwan("secret", "add", "for-b", "--for", "b-gw", "--kind", "psk", *here, stdin=b64encode(PSK))
        host.gitwan("secret", "rotate", "between", "--identity", str(place.folder / "keys/age.key"), *here)
        host.gitwan("secret", "show-recipients", *here)
        host.gitwan("lock", str(host.work))
        host.push("secrets")
        host.gitwan("validate", str(host.work))
        host.gitwan("client", "laptop", *here)
        host.gitwan("diff", "HEAD~1", *here, ok=(2,))
        host.gitwan("compile", str(host.work), "--out", str(place.folder / "out"))
        host.agent("run", "--dry-run", ok=(2,))
        answers = cycles(host)
        host.agent("run", "--dry-run", "--json", ok=(0, 1, 2))
        host.agent("remove", "--yes", ok=(0, 1))
        host.gitwan("keys", "--dir", str(place.folder / "keys"))
    assert canaries.found_in("its own file", (place.folder / "keys/private.key").read_bytes())
    heard = host.said + (place.folder / "agent.log").read_bytes()
    assert b"rolled back" in heard or b"RolledBack" in heard
    wrong = canaries.found_in("what was said", heard)
    for number, answer in enumerate(answers):
        wrong += canaries.found_in(f"answer {number}", answer)
    files = [path for name in ("state", "out", "work") for path in (place.folder / name).rglob("*") if path.is_file()]
    for path in files:
        wrong += canaries.found_in(str(path), path.read_bytes())
    objects = ["git", "-C", str(host.work), "cat-file", "--batch-all-objects", "--batch"]
    wrong += canaries.found_in("a commit", subprocess.run(objects, capture_output=True, check=True).stdout)
    for words in seen.command_lines:
        wrong += canaries.found_in(f"the command line {words!r}", words)
    for words, environment in seen.environments:
        # git gets its token by its own environment, which only its user and root can read.
        spared = {"the git token"} if b"git" in words.split(b"\0")[0] or b"fsize" in words else set()
        wrong += [text for text in canaries.found_in(repr(words), environment) if text.split(" in ")[0] not in spared]
    assert not wrong, wrong
    print(
        f"{len(set(canaries.forms.values()))} canaries in {len(canaries.forms)} forms: none in {len(files)} files, "
        f"{len(answers)} answers, {len(heard)} bytes said, {len(seen.command_lines)} command lines, "
        f"{len(seen.environments)} environments ({canaries.searched >> 10} KiB)"
    )
