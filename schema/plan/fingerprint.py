"""The comparable fingerprint of a preshared key, for whoever stores the key and whoever reads it from the kernel."""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2s


def preshared_fingerprint(key: bytes) -> str:
    """Sixteen bytes of keyed BLAKE2s over the 32 bytes of the key, in base64. Says nothing about the key itself."""
    return b64encode(blake2s(key, digest_size=16, key=b"gitwan-psk").digest()).decode()
