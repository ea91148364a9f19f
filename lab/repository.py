"""The repository that the lab's agents pull from: the user's repository, with one commit of keys on top."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

from compiler.compile import Compilation, compile_files
from compiler.fabric.model import Fabric
from compiler.fabric.reach import versions
from compiler.shell import vault
from compiler.shell.inputs import read_folder
from compiler.shell.secrets import sidecar
from lab.blueprint import GIT_ADDRESS, GIT_ADDRESS6
from lab.folder import LabError, LabFolder
from lab.provider import mullvad, pia
from lab.provider.make import Files
from lab.provider.make import make as make_providers
from lab.provider.places import kinds_of, unplayed
from reconciler.state.keys import ensure_identity
from reconciler.system.wg_key import generate_private, public_key
from schema.input import LOCK
from schema.lock import lock_text
from schema.plan.fingerprint import sealed_digest
from schema.problem import Problems

HOOK = """\
#!/bin/sh
# Tells every agent of the lab that there is something to pull; what does not answer will poll.
exec "{python}" -m reconciler.base.control notify {sockets} 2>/dev/null || true
"""
AGENT = """\
host: {host}
source:
  git: ssh://root@{address}{bare}
  branch: main
  path: "{path}"
  ssh_key: {git}/deploy_key
  known_hosts: {git}/known_hosts
poll: {{interval: 30s, jitter: 5s}}
state: {home}/state
socket: {home}/agent.sock
keys: {home}/keys
metrics: 127.0.0.1:9586
pia: {pia}
"""
AUTHOR = {"GIT_AUTHOR_NAME": "lab", "GIT_AUTHOR_EMAIL": "lab@localhost"}
COMMITTER = {"GIT_COMMITTER_NAME": "lab", "GIT_COMMITTER_EMAIL": "lab@localhost"}


def git(folder: Path, *arguments: str) -> str:
    """Run a git command in a folder, without the user's hooks and signing settings. Raises LabError."""
    settings = ["-c", "commit.gpgsign=false", "-c", "core.hooksPath=.git/hooks", "-c", "advice.detachedHead=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *settings, *arguments],
        env={**os.environ, **AUTHOR, **COMMITTER},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"git {arguments[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def make(sites: Path, folder: LabFolder) -> tuple[Compilation, str]:
    """Fill the lab's folder. Returns the compiled network, and the path of its files in the repository.

    Raises Problems if the network does not compile, and LabError if git fails.
    """
    path = _clone(sites.resolve(), folder)
    here = folder.work / path
    # Hosts without a key are not an error here: the lab creates all keys itself.
    first = compile_files(*_input(here))
    if first.fabric is None:
        raise Problems(first.problems)
    if missing := unplayed(first.fabric):
        raise LabError(missing)
    shutil.rmtree(here / "keys", ignore_errors=True)
    (here / "keys").mkdir()
    for host in sorted(first.fabric.nodes):
        (here / "keys" / f"{host}.pub").write_text(_key(folder, host) + "\n")
        (here / "keys" / f"{host}.age").write_text(ensure_identity(folder.host(host) / "keys") + "\n")
    _secrets(here, first.fabric)
    for name, roamer in sorted(first.fabric.clients.items()):
        _client_key(here / roamer.doc.text.path, name, _key(folder, name))
    result = compile_files(*_input(here))
    if result.fabric is None or result.failed:
        raise Problems(result.problems)
    (here / LOCK).write_text(lock_text(result.fabric.lock))
    git(folder.work, "add", "-A", "--", path or ".")
    git(folder.work, "commit", "-q", "--allow-empty", "-m", "lab: use keys of this lab")
    if kinds := kinds_of(result.fabric):
        make_providers(Files(folder.provider), kinds)
    _serve(folder, result.fabric, path)
    return result, path


def _input(folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    found = read_folder(folder)
    return found.files, found.special


def _clone(sites: Path, folder: LabFolder) -> str:
    """Clone the user's repository, and copy the current files into it, committed or not. Returns the path of the
    sites."""
    if not sites.is_dir():
        raise LabError(f"{sites} is no folder: give the one with fabric.yaml")
    try:
        root = Path(git(sites, "rev-parse", "--show-toplevel"))
        git(root, "rev-parse", "HEAD")
    except LabError:
        root = None
    path = "" if root is None else sites.relative_to(root.resolve()).as_posix().removeprefix(".")
    if root is None:
        folder.work.mkdir()
        git(folder.work, "init", "-q", "-b", "main")
    else:
        git(folder.root, "clone", "-q", "--no-local", str(root), str(folder.work))
        git(folder.work, "checkout", "-q", "-B", "main")
        for name in read_folder(folder.work / path).files:
            (folder.work / path / name).unlink()  # deleted in the working tree, but not committed yet
    found = read_folder(sites)
    if found.special:
        raise Problems(compile_files(found.files, found.special).problems)
    for name, content in found.files.items():
        target = folder.work / path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def _key(folder: LabFolder, name: str) -> str:
    """Create a machine's private key in the lab's folder. Returns the public key."""
    private = generate_private()
    home = folder.host(name) / "keys"
    home.mkdir(parents=True)
    with os.fdopen(os.open(home / "private.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(base64.b64encode(private).decode() + "\n")
    return public_key(private)


def _secrets(here: Path, fabric: Fabric) -> None:
    """Create secrets with the same names and kinds. Their real values are unknown, and the lab does not need them.

    The credentials of exits are accounts of the lab's own providers.
    """
    accounts = _accounts(fabric)
    for doc in fabric.desired.secrets:
        secret = doc.model
        if secret.secret not in fabric.needs:
            (here / "secrets" / f"{secret.secret}.age").unlink()
            (here / doc.text.path).unlink()
            continue
        value = accounts.get(secret.secret) or vault.generate("psk" if secret.kind == "value" else secret.kind)
        holders = {host: (here / "keys" / f"{host}.age").read_text().strip() for host in fabric.needs[secret.secret]}
        ciphertext = vault.seal(value, holders.values())
        fresh = {"fingerprint": vault.fingerprint(secret.kind, value), "digest": sealed_digest(ciphertext)}
        (here / "secrets" / f"{secret.secret}.age").write_bytes(ciphertext)
        text = sidecar(secret.model_copy(update={**fresh, "recipients": holders}))
        (here / doc.text.path).write_text(text)


def _accounts(fabric: Fabric) -> dict[str, bytes]:
    """Name of a secret -> the account at the simulated provider of its exit."""
    known: dict[str, bytes] = {"pia": pia.ACCOUNT.encode(), "mullvad": mullvad.ACCOUNT.encode()}
    ways = [way for node in fabric.nodes.values() for way in node.exits if way.credentials]
    return {way.credentials.secret: known[way.model.provider] for way in ways if way.credentials}


def _client_key(path: Path, name: str, key: str) -> None:
    """Replace a client's public key with the lab's. The rest of the file stays unchanged."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    document = yaml.load(path.read_text())
    document["clients"][name]["public_key"] = key
    with path.open("w") as file:
        yaml.dump(document, file)


def _serve(folder: LabFolder, fabric: Fabric, path: str) -> None:
    """Create a bare repository with a hook, ssh keys for both sides, and the agents' settings."""
    git(folder.root, "init", "-q", "--bare", "-b", "main", str(folder.bare))
    git(folder.work, "remote", "add", "lab", str(folder.bare))
    hook = folder.bare / "hooks" / "post-receive"
    nodes = sorted(fabric.nodes.items())
    sockets = " ".join(f"'{folder.agent_socket(host)}'" for host, _ in nodes)
    folder.git.mkdir()
    for name in ("host_key", "deploy_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder.git / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    host_key = (folder.git / "host_key.pub").read_text()
    (folder.git / "authorized_keys").write_text((folder.git / "deploy_key.pub").read_text())
    (folder.git / "known_hosts").write_text(f"{GIT_ADDRESS},{GIT_ADDRESS6} {host_key}")
    for host, node in nodes:
        home = folder.host(host)
        address = GIT_ADDRESS if 4 in versions(node.model.underlay) else f"[{GIT_ADDRESS6}]"
        pinned = Files(folder.provider).pia
        settings = AGENT.format(
            host=host, address=address, bare=folder.bare, path=path, git=folder.git, home=home, pia=pinned
        )
        (home / "agent.yaml").write_text(settings)
    git(folder.work, "push", "-q", "-u", "lab", "main")
    # The hook is installed after the first push: no agent is running yet.
    hook.write_text(HOOK.format(python=sys.executable, sockets=sockets))
    hook.chmod(0o755)
