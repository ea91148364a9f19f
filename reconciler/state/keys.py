"""The host's own keys, made on the host, kept there and shown to nobody but the kernel; and what they open.

private.key      the WireGuard key; private.2.key, private.3.key those that took over from it
age.key          the age identity that secrets of the repository are encrypted to
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
    """The key's file cannot be used; the text says why, without the key in it."""


Sealed = Callable[[SecretRef], Iterable[bytes]]
"""The ciphertexts on this host that may hold a secret."""
SecretReader = Callable[[SecretRef], bytes]


def nothing_sealed(reference: SecretRef) -> Iterable[bytes]:
    return ()


def secret_reader(
    folder: Path, sealed: Sealed = nothing_sealed, identity: Path | None = None, exits: Path | None = None
) -> SecretReader:
    """What resolves a plan's secrets: the host's own private key in `folder`, those of its exits in the folder that
    their tunnels are remembered in, all others with its age identity."""

    def read(reference: SecretRef) -> bytes:
        """Raises LookupError for a secret that is not on this host, OSError or ValueError for one that is unusable."""
        if reference.secret == OWN:
            return _own_key(folder, reference.fingerprint)
        if reference.secret.startswith(EXIT) and exits is not None:
            return read_key(exits / reference.secret.removeprefix(EXIT) / FILE)
        return _opened(reference, sealed(reference), identity or folder / IDENTITY)

    return read


def _own_key(folder: Path, fingerprint: str) -> bytes:
    """Of several, the key that is meant; the first where none is, for the driver to say so."""
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
    """The 32 bytes of a key in base64; any other value as it is."""
    text = value.strip()
    if len(text) == 44:
        try:
            return b64decode(text, validate=True)
        except Base64Error:
            pass
    return value


def key_files(folder: Path) -> list[Path]:
    """The host's WireGuard keys, the oldest first."""
    numbered = {
        int(found[1] or 1): path for path in folder.glob("private*.key") if (found := _FILE.fullmatch(path.name))
    }
    return [path for _, path in sorted(numbered.items())]


OWN = "private-key"
"""The name that plans use for the private key of the host itself."""
EXITS = "exits"
"""The folder of the exits' own keys, in the agent's state."""
EXIT = "exit:"
"""Before an exit's name: the private key that the agent has made for it. No secret of a repository is called so."""


def read_key(path: Path) -> bytes:
    """The 32 bytes of a private key's file. Raises OSError, or ValueError without the key in it."""
    text = _read_private(path)
    try:
        key = b64decode(text.strip(), validate=True)
    except Base64Error:
        key = b""
    if len(key) != 32:
        raise ValueError(f"{path} does not hold a WireGuard private key")
    return key


def _read_private(path: Path) -> bytes:
    """Raises OSError, also where others than its owner may read the file."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise PermissionError(f"{path} may be read by others: set its mode to 0600")
        return file.read(16384)


def write_key(path: Path, key: bytes) -> None:
    """Write a new key; a file that is there stays. Raises OSError."""
    write_private(path, b64encode(key) + b"\n")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; one that is there stays. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, for its mode
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def ensure_key(folder: Path) -> tuple[str, bool]:
    """The host's newest public key, and whether its private key was made just now. Raises KeyFileError."""
    path = (key_files(folder) or [folder / FILE])[-1]
    return ensure_file(path)


def next_key(folder: Path) -> tuple[str, Path]:
    """One more key, and its file. Raises KeyFileError."""
    files = key_files(folder)
    if not files:
        raise KeyFileError(f"there is no key in {folder} yet: `gitwan keys` makes the first one")
    found = _FILE.fullmatch(files[-1].name)
    assert found is not None
    path = folder / f"private.{int(found[1] or 1) + 1}.key"
    return ensure_file(path)[0], path


def ensure_identity(folder: Path) -> str:
    """The age recipient of this host; its identity is made where there is none. Raises KeyFileError."""
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
    """The public key of a private key's file, and whether that was made just now. Raises KeyFileError."""
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
