from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.duration import duration_text, seconds


@given(st.integers(0, 10**9))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    assert seconds(duration_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0s"), (0.1, "100ms"), (1.5, "1500ms"), (10.0, "10s"), (60.0, "60s"), (90.0, "90s"), (300.0, "5m"),
        (3600.0, "60m"), (7200.0, "2h"), (86400.0, "24h"),
    ],
)  # fmt: skip
def test_a_duration_has_the_unit_that_a_person_would_write(value: float, text: str) -> None:
    assert duration_text(value) == text


@pytest.mark.parametrize("value", ["10", "10 s", "s", "-1s", "1.2345s", 10, None])
def test_a_duration_without_its_unit_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(value)
