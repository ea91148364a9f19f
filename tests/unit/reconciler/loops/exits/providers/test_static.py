from __future__ import annotations

import pytest

from reconciler.loops.exits.providers.base import ProviderError
from reconciler.loops.exits.providers.static import Static
from schema.plan.exits import WrittenGateway
from tests.unit.reconciler.loops.exits.providers.server import KEY, OURS

VPS = WrittenGateway(
    name="vps",
    endpoint="[2001:db8::1]:51820",
    public_key=KEY,
    addresses=("10.9.0.2/32",),
    dns=("10.9.0.1",),
    country="nl",
)
HOME = WrittenGateway(name="home", endpoint="home.example.net:51821", public_key=KEY, addresses=("10.8.0.2/32",))


def resolve(name: str) -> str:
    if name != "home.example.net":
        raise OSError("no such name")
    return "192.0.2.7"


def nothing(name: str) -> str:
    raise OSError("no such name")


def test_what_is_written_down_is_all_that_is_needed() -> None:
    static = Static([VPS], nothing)
    [gateway] = static.known()
    assert static.discover() == [gateway]
    session = static.register(gateway, OURS)
    assert session.endpoint == "[2001:db8::1]:51820"
    assert (session.addresses, session.dns) == (("10.9.0.2/32",), ("10.9.0.1",))
    assert static.renew(session, OURS) == session
    assert static.forward(session, "wg0") is None


def test_a_name_is_resolved_at_each_discovery() -> None:
    static = Static([VPS, HOME], resolve)
    assert [gateway.id for gateway in static.known()] == ["vps"]
    assert [gateway.endpoint for gateway in static.discover()] == ["192.0.2.7:51821", "[2001:db8::1]:51820"]
    assert len(static.known()) == 2


def test_a_name_that_is_gone_stops_only_its_own_gateway() -> None:
    assert [gateway.id for gateway in Static([VPS, HOME], nothing).discover()] == ["vps"]
    with pytest.raises(ProviderError, match=r"home\.example\.net cannot be resolved"):
        Static([HOME], nothing).discover()


def test_another_gateway_is_none() -> None:
    [gateway] = Static([VPS], nothing).known()
    with pytest.raises(ProviderError, match="no gateway that is written down"):
        Static([], nothing).register(gateway, OURS)
