"""When an observed device is what the plan wants."""

from __future__ import annotations

import pytest

from reconciler.kinds.base import Observed
from reconciler.kinds.wireguard import KIND
from schema.plan import SecretRef, Wireguard

FOUND = Wireguard(dev="wg0", private_key=SecretRef(secret="private-key", fingerprint="f"), listen_port=5000)


@pytest.mark.parametrize(
    ("change", "satisfied"),
    [
        ({}, True),
        ({"leg": 2}, True),
        ({"fwmark": 0}, True),
        ({"private_key": SecretRef(secret="another-name", fingerprint="f")}, True),
        ({"private_key": SecretRef(secret="private-key", fingerprint="g")}, False),
        ({"listen_port": 5001}, False),
        ({"fwmark": 7}, False),
    ],
)
def test_what_is_no_setting_is_not_compared(change: dict[str, object], satisfied: bool) -> None:
    assert KIND.satisfies(Observed(FOUND, "gitwan"), FOUND.model_copy(update=change), None) is satisfied
