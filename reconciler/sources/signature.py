"""Splits a commit into payload and signature, and judges the output of the tools that verify it. Pure.

A signed commit has a header `gpgsig` whose continuation lines begin with a space. The signature covers the commit
without this header (git's Documentation/gitformat-signature). The armour tells OpenPGP from SSH signatures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scheme = Literal["ssh", "openpgp"]
_ARMOUR: dict[bytes, Scheme] = {
    b"-----BEGIN SSH SIGNATURE-----": "ssh",
    b"-----BEGIN PGP SIGNATURE-----": "openpgp",
    b"-----BEGIN PGP MESSAGE-----": "openpgp",
}
_HEADERS = (b"gpgsig", b"gpgsig-sha256")


class SignatureProblem(Exception):  # noqa: N818 - a finding about a commit
    """The reason why a commit is not trusted: one CamelCase word, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed payload, and its armoured signature."""

    payload: bytes
    signature: bytes
    scheme: Scheme


def split(raw: bytes) -> Signed:
    """Split a raw commit object into payload and signature. Raises SignatureProblem."""
    head, divider, body = raw.partition(b"\n\n")
    kept: list[bytes] = []
    found: list[list[bytes]] = []
    inside = False
    for line in head.split(b"\n"):
        name, _, value = line.partition(b" ")
        if line.startswith(b" "):
            (found[-1] if inside else kept).append(line[1:] if inside else line)
            continue
        inside = name in _HEADERS
        if inside:
            found.append([value])
        else:
            kept.append(line)
    if not found:
        raise SignatureProblem("Unsigned", "it is not signed")
    if len(found) > 1:
        raise SignatureProblem("BadSignature", "it has several signatures")
    signature = b"\n".join(found[0]) + b"\n"
    scheme = next((kind for armour, kind in _ARMOUR.items() if signature.startswith(armour)), None)
    if scheme is None:
        raise SignatureProblem("BadSignature", "its signature is neither SSH's nor OpenPGP's")
    return Signed(b"\n".join(kept) + divider + body, signature, scheme)


_GPG = {
    "REVKEYSIG": ("Revoked", "it is signed with a key that was revoked"),
    "EXPKEYSIG": ("Expired", "it is signed with a key that has expired"),
    "EXPSIG": ("Expired", "its signature has expired"),
    "BADSIG": ("BadSignature", "its signature does not fit its content"),
    "NO_PUBKEY": ("UnknownSigner", "it is signed by somebody who is not pinned on this host"),
    "ERRSIG": ("UnknownSigner", "it is signed by somebody who is not pinned on this host"),
}


def judge_gpg(status: str) -> str:
    """The signer, from the output of `gpg --status-fd` (doc/DETAILS of GnuPG). Raises SignatureProblem."""
    words = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    names = {word[0] for word in words if word}
    for bad, (reason, message) in _GPG.items():
        if bad in names:
            raise SignatureProblem(reason, message)
    good = [word for word in words if word[:1] == ["GOODSIG"]]
    if len(good) != 1 or "VALIDSIG" not in names:
        raise SignatureProblem("BadSignature", "its signature could not be checked")
    return " ".join(good[0][2:])
