"""`gitwan secret` and `gitwan keys rotate`, as people meet them; nothing that they write or say holds a value."""

from __future__ import annotations

import io
import os
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from compiler.compile import compile_files
from compiler.shell import vault
from compiler.shell.inputs import read_folder
from schema.plan.fingerprint import preshared_fingerprint
from tests.unit.compiler.cli.test_main import ROOT, Command, command

__all__ = ["command"]

HOSTS = ("ams-gw1", "fra-gw1", "vpn-ireland", "vpn-singapore")


@pytest.fixture
def sites(tmp_path: Path, command: Command) -> Path:
    """The example network without its secret."""
    found = Path(shutil.copytree(ROOT / "sites", tmp_path / "sites"))
    shutil.rmtree(found / "secrets")
    (found / "keys/nas.age").unlink()
    home = found / "home.yaml"
    home.write_text(home.read_text().partition("    exits:")[0])
    command("lock", found)
    return found


@pytest.fixture
def ready(sites: Path, command: Command) -> Path:
    """Recipients for hosts and for anna, a psk wanted by a link, and a key shared by the gateways."""
    (sites / "keys/people").mkdir()
    for name in (*HOSTS, "people/anna"):
        command("keys", "recipient", "--dir", sites.parent / name)
        (sites / "keys" / f"{name}.age").write_text(command.out)
    path = sites / "fabric.yaml"
    path.write_text(path.read_text().replace("between: [ams, fra]\n", "between: [ams, fra]\n    psk: ams-fra\n"))
    return sites


def identity(sites: Path, name: str) -> Path:
    return sites.parent / name / "age.key"


def test_a_secret_is_encrypted_to_those_who_need_it(ready: Path, command: Command) -> None:
    assert command("validate", ready) == 1 and "GW080" in command.err
    assert command("secret", "add", "ams-fra", "--generate", "psk", "-C", ready) == 0
    assert command.out.endswith("encrypted to ams-gw1, fra-gw1, people/anna\n")
    assert command("validate", ready) == 0 and not command.err
    value = vault.unseal((ready / "secrets/ams-fra.age").read_bytes(), identity(ready, "fra-gw1"))
    assert len(value) == 44
    with pytest.raises(vault.VaultError, match="not encrypted to"):
        vault.unseal((ready / "secrets/ams-fra.age").read_bytes(), identity(ready, "vpn-ireland"))
    found = compile_files(read_folder(ready).files)
    assert "ams-fra" in found.plan("ams-gw1").canonical().decode()
    assert "ams-fra" not in found.plan("vpn-ireland").canonical().decode()


def test_a_host_with_a_new_identity_is_named_until_somebody_rotates(ready: Path, command: Command) -> None:
    command("secret", "add", "ams-fra", "--generate", "psk", "-C", ready)
    identity(ready, "ams-gw1").unlink()
    command("keys", "recipient", "--dir", ready.parent / "ams-gw1")
    (ready / "keys/ams-gw1.age").write_text(command.out)
    assert command("validate", ready) == 1 and "GW082" in command.err
    assert command("secret", "show-recipients", "-C", ready) == 1 and "! ams-gw1" in command.err
    before = (ready / "secrets/ams-fra.yaml").read_text().split("digest")[0]
    assert command("secret", "rotate", "ams-fra", "-C", ready, "--identity", identity(ready, "people/anna")) == 0
    assert (ready / "secrets/ams-fra.yaml").read_text().startswith(before), "the value is the same"
    assert command("validate", ready) == 0
    assert command("secret", "rotate", "ams-fra", "-C", ready, "--generate") == 0
    assert not (ready / "secrets/ams-fra.yaml").read_text().startswith(before)


def test_the_gateways_share_a_key(ready: Path, command: Command) -> None:
    command("secret", "add", "ams-fra", "--generate", "psk", "-C", ready)
    with (ready / "fabric.yaml").open("a") as file:
        file.write("clients_key: roaming\n")
    assert command("secret", "add", "roaming", "--generate", "key", "-C", ready) == 0
    assert "vpn-ireland, vpn-singapore" in command.out
    value = vault.unseal((ready / "secrets/roaming.age").read_bytes(), identity(ready, "vpn-ireland"))
    assert command("client", "laptop", "-C", ready) == 0
    assert f"PublicKey = {vault.fingerprint('key', value)}" in command.out


def test_a_value_is_read_and_edited(ready: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    value, other = (b64encode(os.urandom(32)) for _ in range(2))

    class Stdin(io.TextIOWrapper):
        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Stdin(io.BytesIO(value + b"\n")))
    assert command("secret", "add", "ams-fra", "--kind", "psk", "-C", ready) == 0
    sidecar = (ready / "secrets/ams-fra.yaml").read_text()
    assert preshared_fingerprint(vault._key(value)) in sidecar
    editor = ready.parent / "editor"
    editor.write_text(f'#!/bin/sh\nstat -c %a "$1" > {ready.parent}/mode\necho {other.decode()} > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    who: dict[str, Any] = {"GITWAN_IDENTITY": str(identity(ready, "people/anna"))}
    for name, text in who.items():
        monkeypatch.setenv(name, text)
    assert command("secret", "edit", "ams-fra", "-C", ready) == 0
    assert (ready.parent / "mode").read_text() == "600\n"
    assert preshared_fingerprint(vault._key(other)) in (ready / "secrets/ams-fra.yaml").read_text()
    said = command.out + command.err + "".join(p.read_text() for p in (ready / "secrets").iterdir())
    assert value.decode() not in said and other.decode() not in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["add", "ams-fra", "--generate", "value"], "only keys can be made"),
        (["add", "Ams"], "no name for a secret"),
        (["add", "x", "--for", "nas"], "nas has no recipient"),
        (["rotate", "nowhere"], "there is no secret 'nowhere'"),
        (["edit", "nowhere"], "there is no secret 'nowhere'"),
    ],
)
def test_what_cannot_be_is_said(
    ready: Path, command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    """Before anybody is asked for a value."""
    monkeypatch.setattr("compiler.cli.secrets._asked", lambda name: pytest.fail("a value was asked for"))
    assert command("secret", *words, "-C", ready) == 1
    assert complaint in command.err
    assert not (ready / "secrets").exists()


def test_where_nobody_is_there_to_encrypt_to_the_way_out_is_said(sites: Path, command: Command) -> None:
    assert command("secret", "add", "x", "-C", sites) == 1
    assert "name a host that it is for with --for HOST" in command.err


def test_a_key_is_rotated_in_two_commits(sites: Path, command: Command) -> None:
    command("keys", "--dir", sites.parent / "nas")
    (sites / "keys/nas.pub").write_text(command.out)
    assert command("keys", "rotate", "nas", "-C", sites) == 1 and "gitwan keys next" in command.err
    assert command("keys", "rotate", "nas", "--finish", "-C", sites) == 1 and "one key only" in command.err
    command("keys", "next", "--dir", sites.parent / "nas")
    new = command.out.strip()
    assert command("keys", "rotate", "nas", new, "-C", sites) == 0
    assert command("lock", sites, "--check") == 0
    both = compile_files(read_folder(sites).files)
    assert {r.key[0] for r in both.plan("nas").resources if r.kind == "wireguard"} == {"wg-ams-1", "wg-ams-1b"}
    assert command("keys", "rotate", "nas", new, "-C", sites) == 1 and "being rotated already" in command.err
    assert command("keys", "rotate", "nas", "--finish", "-C", sites) == 0
    assert [p.name for p in sorted((sites / "keys").glob("nas*"))] == ["nas.2.pub"]
    assert command("lock", sites, "--check") == 0
    after = compile_files(read_folder(sites).files)
    kept = {r for r in after.plan("nas").resources if r.kind in ("wireguard", "peer")}
    assert kept < set(both.plan("nas").resources), "what has taken over stays as it is"


def test_nonsense_is_no_key(sites: Path, command: Command) -> None:
    assert command("keys", "rotate", "nas", "nonsense", "-C", sites) == 1
    assert "GW024" in command.err and "`gitwan keys next` prints on nas " in command.err
    assert not (sites / "keys/nas.2.pub").exists()
