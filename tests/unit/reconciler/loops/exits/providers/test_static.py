from __future__ import annotations

import pytest

from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.providers.static import Fixed, Static
from tests.unit.reconciler.loops.exits.providers.server import KEY, OURS

GATEWAY = Gateway("vps", "vps", "vps", "nl", ("2001:db8::1",), 51820, public_key=KEY)


def test_what_is_written_down_is_all_that_is_needed() -> None:
    static = Static([Fixed(GATEWAY, ("10.9.0.2/32",), ("10.9.0.1",))])
    assert static.discover() == static.known() == [GATEWAY]
    session = static.register(GATEWAY, OURS)
    assert (session.endpoint, session.addresses, session.dns) == (
        "[2001:db8::1]:51820",
        ("10.9.0.2/32",),
        ("10.9.0.1",),
    )
    assert static.renew(session, OURS) == session
    assert static.forward(session, "wg0") is None


def test_another_gateway_is_none() -> None:
    with pytest.raises(ProviderError, match="no gateway that is written down"):
        Static([]).register(GATEWAY, OURS)
