"""The host's own WireGuard key: made on the host, kept there, and shown to nobody but the kernel."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from pathlib import Path

from schema.plan import SecretRef

FILE = "private.key"


class KeyFileError(Exception):
    """The key's file cannot be used; the text says why, without the key in it."""


def secret_reader(folder: Path) -> Callable[[SecretRef], bytes]:
    """What resolves a plan's secrets: `<folder>/private.key` is the host's own private key."""

    def read(reference: SecretRef) -> bytes:
        """Raises LookupError for a secret that is not on this host, OSError or ValueError for one that is unusable."""
        if reference.secret != OWN:
            raise LookupError(f"no secret {reference.secret} on this host")
        return read_key(folder / FILE)

    return read


OWN = "private-key"
"""The name that plans use for the private key of the host itself."""


def read_key(path: Path) -> bytes:
    """The 32 bytes of a private key's file. Raises OSError, or ValueError without the key in it."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise PermissionError(f"{path} may be read by others: set its mode to 0600")
        text = file.read(1024)
    try:
        key = b64decode(text.strip(), validate=True)
    except Base64Error:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{path} does not hold a WireGuard private key")
    return key


def write_key(path: Path, key: bytes) -> None:
    """Write a new key; a file that is there stays. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, for its mode
        file.write(b64encode(key) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def ensure_key(folder: Path) -> tuple[str, bool]:
    """The host's public key, and whether its private key was made just now. Raises KeyFileError."""
    from reconciler.system.wg_key import generate_private, public_key

    path = folder / FILE
    try:
        try:
            return public_key(read_key(path)), False
        except FileNotFoundError:
            key = generate_private()
            write_key(path, key)
            return public_key(key), True
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}" if error.strerror else str(error)) from None
    except ValueError as error:
        raise KeyFileError(str(error)) from None
