"""WireGuard keys: Curve25519, by the `cryptography` library."""

from __future__ import annotations

from base64 import b64decode, b64encode

NO_KEY = bytes(32)
"""Stands for no key in both of WireGuard's interfaces."""


def public_key(private: bytes) -> str:
    """The public key in base64, from a private key of 32 raw bytes. Raises ValueError, without the key in its text."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if len(private) != 32:
        raise ValueError("a private key has 32 bytes")
    return encode(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def generate_private() -> bytes:
    """A new private key of 32 raw bytes, clamped as `wg genkey` does."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = bytearray(X25519PrivateKey.generate().private_bytes_raw())
    key[0] &= 248
    key[31] = key[31] & 127 | 64
    return bytes(key)


def encode(key: bytes) -> str:
    return b64encode(key).decode()


def decode(public: str) -> bytes:
    """The 32 bytes of a public key in base64."""
    return b64decode(public)
