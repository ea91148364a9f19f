from __future__ import annotations

import pytest

from reconciler.sources.signature import SignatureProblem, judge_gpg, split

HEAD = b"tree 1\nparent 2\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n"
SSH = b"gpgsig -----BEGIN SSH SIGNATURE-----\n U1NI\n -----END SSH SIGNATURE-----\n"
PGP = b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ\n -----END PGP SIGNATURE-----\n"


@pytest.mark.parametrize(("header", "scheme"), [(SSH, "ssh"), (PGP, "openpgp")])
def test_the_payload_is_the_commit_without_its_signature(header: bytes, scheme: str) -> None:
    signed = split(HEAD + header + b"\nthe message\n\nwith gpgsig in it\n")
    assert signed.payload == HEAD + b"\nthe message\n\nwith gpgsig in it\n"
    assert signed.scheme == scheme
    assert signed.signature.endswith(b"SIGNATURE-----\n") and b"\n " not in signed.signature


def test_headers_after_the_signature_and_their_continuations_are_signed_too() -> None:
    signed = split(HEAD + SSH + b"mergetag object 3\n type commit\n gpgsig no\n\nm\n")
    assert signed.payload == HEAD + b"mergetag object 3\n type commit\n gpgsig no\n\nm\n"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (HEAD + b"\nm\n", "Unsigned"),
        (HEAD + b"\ngpgsig -----BEGIN SSH SIGNATURE-----\n", "Unsigned"),
        (HEAD + SSH + SSH + b"\nm\n", "BadSignature"),
        (HEAD + b"gpgsig nonsense\n\nm\n", "BadSignature"),
    ],
)
def test_what_is_no_single_signature_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(SignatureProblem) as found:
        split(raw)
    assert found.value.reason == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("[GNUPG:] ERRSIG 1 2\n[GNUPG:] NO_PUBKEY 1\n", "UnknownSigner"),
        ("[GNUPG:] EXPKEYSIG 1 a\n[GNUPG:] VALIDSIG 1\n", "Expired"),
        ("[GNUPG:] REVKEYSIG 1 a\n[GNUPG:] VALIDSIG 1\n", "Revoked"),
        ("[GNUPG:] BADSIG 1 a\n", "BadSignature"),
        ("[GNUPG:] GOODSIG 1 a\n[GNUPG:] VALIDSIG 1\n[GNUPG:] BADSIG 2 b\n", "BadSignature"),
        ("gpg: Good signature\n", "BadSignature"),
        ("", "BadSignature"),
    ],
)
def test_anything_but_one_good_signature_is_refused(status: str, reason: str) -> None:
    with pytest.raises(SignatureProblem) as found:
        judge_gpg(status)
    assert found.value.reason == reason


def test_one_good_signature_names_its_signer() -> None:
    assert judge_gpg("[GNUPG:] GOODSIG 1F2 Ada <ada@example.org>\n[GNUPG:] VALIDSIG 1F2\n") == "Ada <ada@example.org>"
