"""age: the only code of this room that decrypts. Its exceptions contain no value and no identity."""

from __future__ import annotations

from typing import Any

AGE = b"AGE-SECRET-KEY-"


def generate() -> bytes:
    """A new identity, in the format of age-keygen(1)."""
    from pyrage import x25519

    identity = x25519.Identity.generate()
    return f"# public key: {identity.to_public()}\n{identity}\n".encode()


def recipient_of(identity: bytes) -> str:
    """The recipient to encrypt to. Raises ValueError."""
    return str(_age(identity).to_public())


def decrypt(ciphertext: bytes, identity: bytes) -> bytes:
    """Decrypt a value with an age identity or an SSH ed25519 private key. Raises ValueError."""
    import pyrage

    try:
        opener = _age(identity) if AGE in identity else pyrage.ssh.Identity.from_buffer(identity)
        return bytes(pyrage.decrypt(ciphertext, [opener]))
    except (pyrage.DecryptError, pyrage.IdentityError):
        raise ValueError("it is not encrypted to this identity") from None


def _age(identity: bytes) -> Any:
    import pyrage

    lines = [line.strip() for line in identity.decode("ascii", "replace").splitlines()]
    text = next((line for line in lines if line.startswith(AGE.decode())), "")
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise ValueError("not an age identity") from None
