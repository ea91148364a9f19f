from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from reconciler.keys import KeyFileError, ensure_key, read_key, secret_reader
from schema.plan import SecretRef

OWN = SecretRef(secret="private-key", fingerprint="x")


def test_a_key_is_made_once(tmp_path: Path) -> None:
    public, made = ensure_key(tmp_path / "new")
    assert made and len(b64decode(public)) == 32
    assert ensure_key(tmp_path / "new") == (public, False)
    assert (tmp_path / "new" / "private.key").stat().st_mode & 0o777 == 0o600


def test_the_drivers_get_it_by_its_name(tmp_path: Path) -> None:
    ensure_key(tmp_path)
    read = secret_reader(tmp_path)
    assert read(OWN) == read_key(tmp_path / "private.key")
    with pytest.raises(LookupError):
        read(SecretRef(secret="pia", fingerprint="x"))


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    ensure_key(tmp_path)
    (tmp_path / "private.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="set its mode to 0600"):
        ensure_key(tmp_path)


@pytest.mark.parametrize("text", ["", "nonsense", "AAAA"])
def test_what_is_no_key_is_never_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "private.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="does not hold"):
        ensure_key(tmp_path)
    assert path.read_text() == text
