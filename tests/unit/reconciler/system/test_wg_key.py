"""Keys."""

from __future__ import annotations

import pytest

from reconciler.system.wg_key import decode, encode, generate_private, public_key


def test_a_pair_that_wg_pubkey_made() -> None:
    public = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8="
    assert public_key(bytes(range(32))) == public
    assert encode(decode(public)) == public


def test_a_new_key_is_clamped() -> None:
    key = generate_private()
    assert (key[0] & 7, key[31] & 0xC0) == (0, 64)
    assert generate_private() != key


def test_a_short_key_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError) as raised:
        public_key(b"secret")
    assert "secret" not in str(raised.value)
