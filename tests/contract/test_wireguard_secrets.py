"""Secrets and names, which the host in memory has none of."""

from __future__ import annotations

import os

import pytest

from reconciler.kinds import KINDS
from reconciler.system.wg_key import public_key
from schema.plan import Change, SecretRef
from schema.plan.fingerprint import preshared_fingerprint
from tests.contract.conftest import PRESHARED, PRIVATE, WIREGUARD_WORLDS, World
from tests.contract.test_wireguard import DEVICE, LINK, SIX, named

pytestmark = pytest.mark.parametrize("world", WIREGUARD_WORLDS[1:], indirect=True)


@pytest.fixture
def ready(world: World) -> World:
    world.made(LINK, DEVICE)
    return world


def test_a_secret_that_is_missing_or_another_one_is_refused_without_being_shown(ready: World) -> None:
    other = SecretRef(secret="wan-key", fingerprint=public_key(os.urandom(32)))
    failures = ready.apply(Change(DEVICE, DEVICE.model_copy(update={"private_key": other})))
    missing = SecretRef(secret="nowhere", fingerprint=preshared_fingerprint(PRESHARED))
    failures += ready.create(SIX.model_copy(update={"preshared_key": missing}))
    assert [failure.code for failure in failures] == ["EKEYREJECTED", "ENOKEY"]
    assert ready.satisfied(DEVICE)
    assert PRIVATE.hex() not in repr(failures)


def test_a_name_is_resolved_when_it_is_set_and_reported_as_long_as_it_stays(ready: World) -> None:
    ready.names |= {"a.example": "192.0.2.1", "b.example": "2001:db8::b"}
    peer = SIX.model_copy(update={"endpoint": "a.example:51820"})
    ready.made(peer)
    assert ready.satisfied(peer)
    (seen,) = ready.observe("peer")
    assert seen.session is not None and seen.session.endpoint == "192.0.2.1:51820"
    moved = peer.model_copy(update={"endpoint": "b.example:51820"})
    assert not KINDS["peer"].satisfies(seen, moved, peer)
    assert ready.apply(Change(seen.resource, moved)) == []
    (seen,) = ready.observe("peer")
    assert KINDS["peer"].satisfies(seen, moved, peer)
    assert seen.session is not None and seen.session.endpoint == "[2001:db8::b]:51820"


def test_a_name_that_nobody_knows_costs_the_endpoint_only(ready: World) -> None:
    (failed,) = ready.create(SIX.model_copy(update={"endpoint": "nowhere.example:1"}))
    assert failed.code == "Unresolved"
    assert named(ready)[SIX.public_key].allowed_ips == SIX.allowed_ips
