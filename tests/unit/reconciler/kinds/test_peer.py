"""When an observed peer is what the plan wants."""

from __future__ import annotations

import pytest

from reconciler.kinds.base import Observed, Session
from reconciler.kinds.peer import KIND, endpoint_stale, is_name
from schema.plan import Peer, SecretRef

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABgA="
HERE, THERE, NAME = "192.0.2.1:51820", "198.51.100.9:4242", "gw.example:51820"


def peer(endpoint: str | None = HERE, **fields: object) -> Peer:
    values = {"dev": "wg0", "public_key": KEY, "endpoint": endpoint, "allowed_ips": ("10.0.0.0/24", "10.1.0.0/24")}
    return Peer.model_validate(values | fields)


def seen(resource: Peer, age: float | None = None) -> Observed[Peer]:
    return Observed(resource, "gitwan", Session(resource.endpoint, age))


@pytest.mark.parametrize(
    "found, age, wanted, previous, settled",
    [
        pytest.param(HERE, None, HERE, HERE, True, id="equal"),
        pytest.param(THERE, None, None, None, True, id="the plan has none"),
        pytest.param(THERE, 20.0, HERE, HERE, True, id="roamed"),
        pytest.param(THERE, 20.0, HERE, None, True, id="roamed, nothing confirmed yet"),
        pytest.param(THERE, 200.0, HERE, HERE, False, id="elsewhere, session dead"),
        pytest.param(THERE, None, HERE, HERE, False, id="elsewhere, never a session"),
        pytest.param(None, None, HERE, HERE, False, id="none"),
        pytest.param(THERE, 20.0, HERE, THERE, False, id="the plan changed it"),
        pytest.param(HERE, None, NAME, NAME, True, id="a name, some endpoint"),
        pytest.param(HERE, None, NAME, None, True, id="a name, nothing confirmed yet"),
        pytest.param(None, None, NAME, NAME, True, id="a name, none: left to the agent"),
        pytest.param(HERE, 20.0, NAME, HERE, False, id="the plan changed it to a name"),
        pytest.param(NAME, None, NAME, HERE, True, id="the driver set that name"),
    ],
)
def test_endpoints(
    found: str | None, age: float | None, wanted: str | None, previous: str | None, settled: bool
) -> None:
    before = peer(previous) if previous else None
    observed = seen(peer(found), age)
    assert KIND.satisfies(observed, peer(wanted), before) is settled
    aimed = KIND.aim(observed, peer(wanted, keepalive=9), before)
    assert aimed == peer(found if settled else wanted, keepalive=9)


def test_every_other_field_but_the_name_is_compared() -> None:
    found = seen(peer())
    assert KIND.satisfies(found, peer(name="somebody", allowed_ips=("10.1.0.0/24", "10.0.0.0/24")), None)
    secret = SecretRef(secret="psk", fingerprint="f")
    for change in ({"keepalive": 25}, {"allowed_ips": ()}, {"preshared_key": secret}):
        assert not KIND.satisfies(found, peer(**change), None)
    kept = seen(peer(preshared_key=SecretRef(secret="preshared-key", fingerprint="f")))
    assert KIND.satisfies(kept, peer(preshared_key=secret), None)


def test_every_field_of_a_peer_is_known_here() -> None:
    known = {"kind", "dev", "public_key", "preshared_key", "endpoint", "allowed_ips", "keepalive", "name"}
    assert set(Peer.model_fields) == known, "decide in reconciler/kinds/peer.py whether the new field is compared"


@pytest.mark.parametrize(
    "age, endpoint, stale", [(None, HERE, True), (179.0, HERE, False), (181.0, HERE, True), (None, None, False)]
)
def test_a_stale_endpoint(age: float | None, endpoint: str | None, stale: bool) -> None:
    assert endpoint_stale(seen(peer(), age), peer(endpoint)) is stale


@pytest.mark.parametrize(
    "endpoint, name", [(HERE, False), ("[2001:db8::1]:1", False), (NAME, True), ("10.example:1", True)]
)
def test_a_name(endpoint: str, name: bool) -> None:
    assert is_name(endpoint) is name
