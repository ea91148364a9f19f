"""The certificate authority of the simulated providers, and the key that signs PIA's list."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=365)
LINE = 64
"""Characters of base64 in a line of the signature, as at PIA."""


class Authority:
    """A certificate authority. Its clients pin `pem`."""

    def __init__(self, name: str = "lab") -> None:
        self._key = generate_private_key(SECP256R1())
        self._name = _name(f"{name} authority")
        begin = datetime.now(UTC) - LIFE
        self._cert = (
            _builder(self._name, self._name, self._key, begin, begin + 10 * LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, SHA256())
        )
        self.pem = self._cert.public_bytes(Encoding.PEM).decode()

    def issue(
        self, common: str, names: Sequence[str] = (), starts: timedelta = -LIFE, life: timedelta = 2 * LIFE
    ) -> str:
        """A certificate and its key in one PEM. Without `names` it has only a common name, like those of PIA.

        `starts` is relative to now. The certificate is valid for two years.
        """
        key = generate_private_key(SECP256R1())
        begin = datetime.now(UTC) + starts
        builder = _builder(_name(common), self._name, key, begin, begin + 2 * LIFE)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, names)]), critical=False)
        cert = builder.sign(self._key, SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (private + cert.public_bytes(Encoding.PEM)).decode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


class Signer:
    """A signer with RSA-2048 and SHA-256, as PIA uses for its list."""

    def __init__(self) -> None:
        self._key = generate_rsa(65537, 2048)
        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.pem = public.decode()

    def signed(self, data: bytes) -> bytes:
        """The data, an empty line, and the signature in base64."""
        text = b64encode(self._key.sign(data, PKCS1v15(), SHA256())).decode()
        lines = [text[start : start + LINE] for start in range(0, len(text), LINE)]
        return data + b"\n\n" + "\n".join(lines).encode() + b"\n"
