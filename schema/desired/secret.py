"""Secrets: the clear-text file beside each ciphertext. It lets the compiler work without decrypting anything."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schema.desired.base import Document, Name

RESERVED = "private-key"
"""The name of a host's own private key in plans. It is not a file of the repository."""
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}|ssh-ed25519 [A-Za-z0-9+/]{68}")


def recipient(text: str) -> str:
    """`text` without its comment. Raises ValueError unless it is an age recipient or an SSH ed25519 public key."""
    short = " ".join(text.split()[: 2 if text.startswith("ssh-") else 1])
    if not _RECIPIENT.fullmatch(short) or (text.startswith("age1") and len(text.split()) > 1):
        raise ValueError("not an age recipient (age1…) and not an ssh-ed25519 public key")
    return short


def _free(name: str) -> str:
    if name == RESERVED:
        raise ValueError(f"{RESERVED!r} is what plans call a host's own key")
    return name


SecretName = Annotated[Name, AfterValidator(_free)]
SecretKind = Literal["psk", "key", "value"]
Recipient = Annotated[str, AfterValidator(recipient)]
Holder = Annotated[str, StringConstraints(pattern=r"^(people/)?[a-z0-9][a-z0-9-]{0,62}$")]
"""A host or `people/NAME`: the name of the recipient's file in `keys/`, without `.age`."""


class Secret(Document):
    """The description of a secret. `gitwan secret` writes it to `secrets/NAME.yaml`, beside `secrets/NAME.age`."""

    secret: SecretName
    """This is the name of the secret. Links, `clients_key` and exits refer to it."""
    kind: SecretKind
    """`psk` is a preshared key of WireGuard, `key` a private key of WireGuard, `value` anything else."""
    fingerprint: str = Field(min_length=1)
    """The fingerprint differs for every value and does not reveal it. For a private key it is the public key."""
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """This is the digest of the ciphertext in `secrets/NAME.age`: 16 bytes of BLAKE2b in hexadecimal."""
    recipients: dict[Holder, Recipient]
    """Host or `people/NAME` -> the age or SSH public key to which the secret is encrypted."""
