"""Values of secrets while a command runs: generate, encrypt, decrypt, edit. No exception here contains a value."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schema.desired.secret import SecretKind
from schema.plan.fingerprint import preshared_fingerprint

AGE = b"AGE-SECRET-KEY-"


class VaultError(Exception):
    """An operation on a value failed. The text does not contain the value."""


def generate(kind: SecretKind) -> bytes:
    """A new preshared or private key in base64. Raises VaultError for a kind without a fixed form."""
    if kind == "value":
        raise VaultError("only keys can be made: --generate psk or --generate key")
    key = bytearray(os.urandom(32))
    if kind == "key":
        key[0] &= 248
        key[31] = key[31] & 127 | 64
    return b64encode(key)


def checked(kind: SecretKind, value: bytes) -> bytes:
    """The value in the form of its kind. Raises VaultError if it is invalid."""
    text = value.strip() if kind != "value" else value.removesuffix(b"\n")
    if not text:
        raise VaultError("the value is empty")
    if kind != "value":
        _key(text)
    return text


def fingerprint(kind: SecretKind, value: bytes) -> str:
    """The public key of a private key, a hash of a preshared key, or a random number for any value that could be
    guessed."""
    if kind == "psk":
        return preshared_fingerprint(_key(value))
    if kind == "key":
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return b64encode(X25519PrivateKey.from_private_bytes(_key(value)).public_key().public_bytes_raw()).decode()
    return b64encode(os.urandom(16)).decode()


def seal(value: bytes, recipients: Iterable[str]) -> bytes:
    """The value encrypted to these recipients, as text. Raises VaultError."""
    import pyrage

    try:
        return bytes(pyrage.encrypt(value, [_recipient(text) for text in recipients], armored=True))
    except (pyrage.EncryptError, pyrage.RecipientError) as error:
        raise VaultError(f"cannot encrypt: {error}") from None


def unseal(ciphertext: bytes, identity: Path) -> bytes:
    """The decrypted value. `identity` is a file with an age identity or an SSH ed25519 private key. Raises
    VaultError."""
    import pyrage

    try:
        data = identity.read_bytes()
    except OSError as error:
        raise VaultError(f"{identity}: {error.strerror}: name your age identity with --identity") from None
    try:
        return bytes(pyrage.decrypt(ciphertext, [_identity(data)]))
    except (pyrage.DecryptError, pyrage.IdentityError):
        raise VaultError(f"it is not encrypted to {identity}") from None


def edit(value: bytes, editor: str) -> bytes:
    """The value after editing. The editor gets a private file, in memory if the system supports it. Raises
    VaultError."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="gitwan-") as folder:
        path = Path(folder, "secret")
        path.touch(mode=0o600)
        path.write_bytes(value)
        try:
            subprocess.run([*shlex.split(editor), str(path)], check=True)
            return path.read_bytes()
        except (OSError, subprocess.CalledProcessError, ValueError):
            raise VaultError(f"the editor {editor!r} failed; nothing was changed") from None
        finally:
            for left in Path(folder).iterdir():
                left.write_bytes(bytes(left.stat().st_size))


def _key(text: bytes) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except Base64Error:
        key = b""
    if len(key) != 32:
        raise VaultError("a key is 32 bytes in base64, as `wg genkey` and `wg genpsk` print them")
    return key


def _recipient(text: str) -> Any:
    import pyrage

    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    return kind.Recipient.from_str(text)


def _identity(data: bytes) -> Any:
    import pyrage

    if AGE not in data:
        return pyrage.ssh.Identity.from_buffer(data)
    lines = data.decode("ascii", "replace").splitlines()
    text = next(line.strip() for line in lines if line.startswith(AGE.decode()))
    return pyrage.x25519.Identity.from_str(text)
