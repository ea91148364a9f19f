from __future__ import annotations

import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from compiler.shell import vault
from reconciler.state.keys import KeyFileError, ensure_identity, ensure_key, next_key, read_key, secret_reader
from schema.desired.secret import recipient
from schema.plan import SecretRef

OWN = SecretRef(secret="private-key", fingerprint="x")


def test_a_key_is_made_once(tmp_path: Path) -> None:
    public, made = ensure_key(tmp_path / "new")
    assert made and len(b64decode(public)) == 32
    assert ensure_key(tmp_path / "new") == (public, False)
    assert (tmp_path / "new" / "private.key").stat().st_mode & 0o777 == 0o600


def test_the_drivers_get_it_by_its_name(tmp_path: Path) -> None:
    ensure_key(tmp_path)
    read = secret_reader(tmp_path)
    assert read(OWN) == read_key(tmp_path / "private.key")
    with pytest.raises(LookupError):
        read(SecretRef(secret="pia", fingerprint="x"))


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    ensure_key(tmp_path)
    (tmp_path / "private.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="set its mode to 0600"):
        ensure_key(tmp_path)


@pytest.mark.parametrize("text", ["", "nonsense", "AAAA"])
def test_what_is_no_key_is_never_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "private.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="does not hold"):
        ensure_key(tmp_path)
    assert path.read_text() == text


def test_of_several_keys_the_one_that_the_plan_means(tmp_path: Path) -> None:
    """While a key is rotated both are in use; afterwards the older file may go."""
    first, _ = ensure_key(tmp_path)
    second, path = next_key(tmp_path)
    assert path.name == "private.2.key" and ensure_key(tmp_path) == (second, False)
    read = secret_reader(tmp_path)
    assert read(SecretRef(secret="private-key", fingerprint=first)) == read_key(tmp_path / "private.key")
    assert read(SecretRef(secret="private-key", fingerprint=second)) == read_key(path)
    (tmp_path / "private.key").unlink()
    assert read(SecretRef(secret="private-key", fingerprint=second)) == read_key(path)
    assert next_key(tmp_path)[1].name == "private.3.key"


def test_there_is_no_next_key_without_a_first(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="makes the first one"):
        next_key(tmp_path)


class TestSealed:
    """Secrets of the repository, opened with the host's age identity."""

    REFERENCE = SecretRef(secret="psk", fingerprint="f")
    VALUE = b64encode(bytes(range(32)))

    def reader(self, folder: Path, *ciphertexts: bytes, identity: Path | None = None) -> bytes:
        return secret_reader(folder, lambda reference: ciphertexts, identity)(self.REFERENCE)

    def test_opens_what_is_encrypted_to_it(self, tmp_path: Path) -> None:
        mine, other = ensure_identity(tmp_path), ensure_identity(tmp_path / "other")
        assert (tmp_path / "age.key").stat().st_mode & 0o777 == 0o600
        sealed = [vault.seal(b"another", [other]), vault.seal(self.VALUE, [other, mine])]
        assert self.reader(tmp_path, *sealed) == bytes(range(32))

    def test_an_ssh_host_key_will_do(self, tmp_path: Path) -> None:
        path = tmp_path / "ssh_host_ed25519_key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        public = recipient(path.with_suffix(".pub").read_text())
        assert self.reader(tmp_path, vault.seal(self.VALUE, [public]), identity=path) == bytes(range(32))

    def test_what_is_not_for_this_host_is_named_and_not_shown(self, tmp_path: Path) -> None:
        ensure_identity(tmp_path)
        sealed = vault.seal(self.VALUE, [ensure_identity(tmp_path / "other")])
        with pytest.raises(ValueError, match="psk is not encrypted to") as caught:
            self.reader(tmp_path, sealed)
        assert self.VALUE.decode() not in repr(caught.value)

    def test_an_identity_that_others_may_read_is_refused(self, tmp_path: Path) -> None:
        sealed = vault.seal(self.VALUE, [ensure_identity(tmp_path)])
        (tmp_path / "age.key").chmod(0o644)
        with pytest.raises(PermissionError, match="set its mode to 0600"):
            self.reader(tmp_path, sealed)

    def test_spoilt_ciphertexts_are_no_accident(self, tmp_path: Path) -> None:
        ensure_identity(tmp_path)
        with pytest.raises(ValueError, match="not encrypted to"):
            self.reader(tmp_path, b"nonsense")
