"""Comparable fingerprints: of a preshared key, whether stored or read from the kernel, and of a ciphertext."""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2b, blake2s


def preshared_fingerprint(key: bytes) -> str:
    """Sixteen bytes of keyed BLAKE2s over the 32 bytes of the key, in base64. Says nothing about the key itself."""
    return b64encode(blake2s(key, digest_size=16, key=b"gitwan-psk").digest()).decode()


def sealed_digest(ciphertext: bytes) -> str:
    """Sixteen bytes of BLAKE2b over a ciphertext as it stands in its file, in hexadecimal."""
    return blake2b(ciphertext, digest_size=16).hexdigest()
