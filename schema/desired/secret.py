"""Secrets: what stands in clear text beside each ciphertext, so that the compiler never decrypts anything."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schema.desired.base import Document, Name

RESERVED = "private-key"
"""What plans call a host's own private key, which is no file of the repository."""
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}|ssh-ed25519 [A-Za-z0-9+/]{68}")


def recipient(text: str) -> str:
    """An age recipient or an SSH ed25519 public key, without its comment. Raises ValueError for anything else."""
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
"""A host, or `people/NAME`: the file of `keys/` that the recipient came from."""


class Secret(Document):
    """`secrets/NAME.yaml`: what `gitwan secret` writes beside `secrets/NAME.age`."""

    secret: SecretName
    kind: SecretKind
    """A preshared key, a WireGuard private key, or anything else."""
    fingerprint: str = Field(min_length=1)
    """Tells one value from another and says nothing about it: of a private key its public key."""
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """Of the ciphertext that this belongs to."""
    recipients: dict[Holder, Recipient]
    """Who can decrypt it, and with which key."""
