"""Verifies a provider's signature of its list: RSA with SHA-256 (RFC 8017, PKCS #1 v1.5), by `cryptography`."""

from __future__ import annotations


def signed(data: bytes, signature: bytes, key: str) -> bool:
    """Whether the signature of data verifies with a public key in PEM. Raises ValueError if that is no RSA key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(key.encode())
    except UnsupportedAlgorithm:
        raise ValueError("an unknown kind of key") from None
    if not isinstance(public, RSAPublicKey):
        raise ValueError("not an RSA key")
    try:
        public.verify(signature, data, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
