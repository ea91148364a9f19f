"""No secret is ever in what people read, whatever a provider answers."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from reconciler.loops.exits.providers.asking import LONGEST_TEXT, clean, is_name

SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="…"), min_size=4, max_size=60)


@given(SECRETS, st.text(max_size=80), st.text(max_size=80))
def test_a_secret_is_taken_out_of_every_text_in_every_coding(secret: str, before: str, after: str) -> None:
    for form in (secret, quote(secret, safe=""), quote_plus(secret), b64encode(secret.encode()).decode()):
        shown = clean(f"{before}{form}{after}", [secret])
        assert secret not in shown
        assert "\n" not in shown and len(shown) <= LONGEST_TEXT


def test_a_provider_is_quoted_where_it_says_something() -> None:
    assert clean("port 40123 is busy\n", ["token"]) == "port 40123 is busy"


def test_names_of_another_kind_do_not_get_into_ids_and_requests() -> None:
    assert all(map(is_name, ("uk_2", "de-frankfurt", "london401", "se-mma-wg-001", "a.example.net")))
    assert not any(map(is_name, ("", "-a", "a b", "a/b", "a\nb", "\x1b[31m", "a" * 65, None, 4)))
