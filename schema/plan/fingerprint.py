"""Fingerprints for comparison: of preshared keys, stored or read from the kernel, and of ciphertexts."""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2b, blake2s


def preshared_fingerprint(key: bytes) -> str:
    """16 bytes of keyed BLAKE2s over the 32 bytes of a preshared key, in base64. It reveals nothing about the key."""
    return b64encode(blake2s(key, digest_size=16, key=b"gitwan-psk").digest()).decode()


def sealed_digest(ciphertext: bytes) -> str:
    """16 bytes of BLAKE2b over a ciphertext as it is in its file, in hexadecimal."""
    return blake2b(ciphertext, digest_size=16).hexdigest()
