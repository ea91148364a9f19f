"""The host's own keys, created here and given only to the kernel, and the secrets that they open.

private.key      the WireGuard key; private.2.key, private.3.key are its successors
age.key          the age identity that the repository's secrets are encrypted to
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from schema.plan import SecretRef

FILE = "private.key"
IDENTITY = "age.key"
_FILE = re.compile(r"private(?:\.([1-9]\d*))?\.key")


class KeyFileError(Exception):
    """The key file cannot be used. The text says why, without the key."""


Sealed = Callable[[SecretRef], Iterable[bytes]]
"""Returns the ciphertexts on this host that may contain a secret."""
SecretReader = Callable[[SecretRef], bytes]


def nothing_sealed(reference: SecretRef) -> Iterable[bytes]:
    return ()


def secret_reader(
    folder: Path, sealed: Sealed = nothing_sealed, identity: Path | None = None, exits: Path | None = None
) -> SecretReader:
    """Returns the function that resolves a plan's secrets. The host's own private key is in `folder`, the keys of exits
    are below `exits`, and all other secrets are opened with the age identity."""

    def read(reference: SecretRef) -> bytes:
        """Raises LookupError if the secret is not on this host, OSError or ValueError if it cannot be used."""
        if reference.secret == OWN:
            return _own_key(folder, reference.fingerprint)
        if reference.secret.startswith(EXIT) and exits is not None:
            return read_key(exits / reference.secret.removeprefix(EXIT) / FILE)
        return _opened(reference, sealed(reference), identity or folder / IDENTITY)

    return read


def _own_key(folder: Path, fingerprint: str) -> bytes:
    """The key with this fingerprint. If there is none, the first key, and the driver reports the mismatch."""
    from reconciler.system.wg_key import public_key

    files = key_files(folder) or [folder / FILE]
    for path in files[1:] and files:
        with suppress(OSError, ValueError):
            if public_key(key := read_key(path)) == fingerprint:
                return key
    return read_key(files[0])


def _opened(reference: SecretRef, ciphertexts: Iterable[bytes], identity: Path) -> bytes:
    from reconciler.system.age import decrypt

    found = list(ciphertexts)
    if not found:
        raise LookupError(f"no secret {reference.secret} on this host")
    opener = _read_private(identity)
    for ciphertext in found:
        try:
            return raw(decrypt(ciphertext, opener))
        except ValueError:
            continue
    raise ValueError(f"the secret {reference.secret} is not encrypted to {identity}")


def raw(value: bytes) -> bytes:
    """The 32 bytes of a base64 key; any other value unchanged."""
    text = value.strip()
    if len(text) == 44:
        try:
            return b64decode(text, validate=True)
        except Base64Error:
            pass
    return value


def key_files(folder: Path) -> list[Path]:
    """The host's WireGuard keys, oldest first."""
    numbered = {
        int(found[1] or 1): path for path in folder.glob("private*.key") if (found := _FILE.fullmatch(path.name))
    }
    return [path for _, path in sorted(numbered.items())]


OWN = "private-key"
"""The name that plans use for the host's own private key."""
EXITS = "exits"
"""The folder of the exits' own keys, in the agent's state."""
EXIT = "exit:"
"""The prefix before an exit's name: the private key that the agent made for it. No repository secret has this name."""


def read_key(path: Path) -> bytes:
    """The 32 bytes of a private key file. Raises OSError, or ValueError without the key in its text."""
    text = _read_private(path)
    try:
        key = b64decode(text.strip(), validate=True)
    except Base64Error:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{path} does not hold a WireGuard private key")
    return key


def _read_private(path: Path) -> bytes:
    """Raises OSError, also if users other than the owner may read the file."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise PermissionError(f"{path} may be read by others: set its mode to 0600")
        return file.read(16384)


def write_key(path: Path, key: bytes) -> None:
    """Write a new key. Raises OSError, also if the file exists."""
    write_private(path, b64encode(key) + b"\n")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read. Raises OSError, also if the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, for its mode
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def ensure_key(folder: Path) -> tuple[str, bool]:
    """The host's newest public key, and whether its private key was created just now. Raises KeyFileError."""
    path = (key_files(folder) or [folder / FILE])[-1]
    return ensure_file(path)


def next_key(folder: Path) -> tuple[str, Path]:
    """Create one more key. Returns its public key and file. Raises KeyFileError."""
    files = key_files(folder)
    if not files:
        raise KeyFileError(f"there is no key in {folder} yet: `gitwan keys` makes the first one")
    found = _FILE.fullmatch(files[-1].name)
    assert found is not None
    path = folder / f"private.{int(found[1] or 1) + 1}.key"
    return ensure_file(path)[0], path


def ensure_identity(folder: Path) -> str:
    """This host's age recipient; its identity is created if missing. Raises KeyFileError."""
    from reconciler.system.age import generate, recipient_of

    path = folder / IDENTITY
    try:
        if not path.exists():
            write_private(path, generate())
        return recipient_of(_read_private(path))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}" if error.strerror else str(error)) from None
    except ValueError:
        raise KeyFileError(f"{path} does not hold an age identity") from None


def ensure_file(path: Path) -> tuple[str, bool]:
    """The public key of a private key file, and whether that was created just now. Raises KeyFileError."""
    from reconciler.system.wg_key import generate_private, public_key

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
