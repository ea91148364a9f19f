"""WireGuard devices and peers, through wireguard-go's socket or the kernel's netlink family."""

from __future__ import annotations

import subprocess
from base64 import b64encode

import pytest

from reconciler.kinds import KINDS
from reconciler.system.wg_key import public_key
from schema.plan import Change, Link, Peer, SecretRef, Wireguard
from schema.plan.fingerprint import preshared_fingerprint
from tests.contract.conftest import PRESHARED, PRIVATE, WIREGUARD_WORLDS, World

pytestmark = pytest.mark.parametrize("world", WIREGUARD_WORLDS, indirect=True)

LINK = Link(name="wg0", type="wireguard", mtu=1420)
KEY = SecretRef(secret="wan-key", fingerprint=public_key(PRIVATE))
DEVICE = Wireguard(dev="wg0", private_key=KEY, listen_port=51820, fwmark=0x75)


def a_peer(number: int, **fields: object) -> Peer:
    """A peer with a key and an allowed IP of its own."""
    public = b64encode(number.to_bytes(31, "big") + b"\0").decode()
    values = {"dev": "wg0", "public_key": public, "allowed_ips": (f"10.{number >> 8}.{number & 255}.0/24",)}
    return Peer.model_validate(values | fields)


FULL = a_peer(
    7,
    preshared_key=SecretRef(secret="psk", fingerprint=preshared_fingerprint(PRESHARED)),
    endpoint="192.0.2.1:51820",
    allowed_ips=("10.7.0.0/16", "10.8.0.1/32", "fd07::/32"),
    keepalive=25,
    name="seven",
)
SIX = a_peer(6, endpoint="[2001:db8::6]:1234")


@pytest.fixture
def ready(world: World) -> World:
    world.made(LINK, DEVICE)
    return world


def named(world: World) -> dict[str, Peer]:
    return {peer.public_key: peer for peer in (one.resource for one in world.observe("peer"))}


def test_a_device_is_set_up_and_a_second_time_changes_nothing(world: World) -> None:
    world.made(LINK)
    assert world.observe("wireguard") == []
    assert world.create(DEVICE) == []
    assert world.create(DEVICE) == []
    assert world.satisfied(DEVICE)
    (found,) = world.observe("wireguard")
    assert found.resource.private_key == SecretRef(secret="private-key", fingerprint=KEY.fingerprint)


def test_port_and_mark_change(ready: World) -> None:
    after = Wireguard(dev="wg0", private_key=KEY, listen_port=51821)
    assert ready.apply(Change(DEVICE, after)) == []
    assert ready.satisfied(after)
    assert [one.resource.fwmark for one in ready.observe("wireguard")] == [None]


def test_a_device_without_its_link_is_refused_and_deleting_it_is_not(world: World) -> None:
    assert [failure.code for failure in world.create(DEVICE)] == ["ENODEV"]
    assert world.delete(DEVICE) == []


def test_deleting_a_device_takes_its_key(ready: World) -> None:
    assert ready.delete(DEVICE) == []
    assert ready.observe("wireguard") == []
    assert ready.ours("link") != set()


def test_a_port_that_another_device_has_is_refused(ready: World) -> None:
    ready.made(Link(name="wg1", type="wireguard"))
    failures = ready.create(DEVICE.model_copy(update={"dev": "wg1"}))
    assert [failure.code for failure in failures] == ["EADDRINUSE"]


def test_peers_are_observed_equal_and_creating_them_again_changes_nothing(ready: World) -> None:
    for _ in range(2):
        assert ready.create(FULL, SIX) == []
        assert ready.satisfied(FULL, SIX)
        assert len(ready.observe("peer")) == 2
    (seven,) = [one for one in ready.observe("peer") if one.resource.key == FULL.key]
    assert seven.session is not None
    assert (seven.session.endpoint, seven.session.handshake_age) == (FULL.endpoint, None)
    assert "AAECAwQF" not in repr(ready.observe("peer")), "the preshared key itself is never shown"


def test_a_change_touches_its_peer_only(ready: World) -> None:
    ready.made(FULL, SIX)
    before = named(ready)
    after = FULL.model_copy(
        update={"allowed_ips": ("10.8.0.1/32", "10.9.0.0/16"), "keepalive": 0, "preshared_key": None}
    )
    assert ready.apply(Change(FULL, after)) == []
    assert ready.satisfied(after, SIX)
    assert named(ready)[SIX.public_key] == before[SIX.public_key]


def test_allowed_ips_grow(ready: World) -> None:
    ready.made(FULL)
    after = FULL.model_copy(update={"allowed_ips": (*FULL.allowed_ips, "fd09::/32")})
    assert ready.apply(Change(FULL, after)) == []
    assert ready.satisfied(after)


def test_two_peers_swap_their_allowed_ips(ready: World) -> None:
    one, two = a_peer(1), a_peer(2)
    ready.made(one, two)
    ones, twos = (
        one.model_copy(update={"allowed_ips": two.allowed_ips}),
        two.model_copy(update={"allowed_ips": one.allowed_ips}),
    )
    assert ready.apply(Change(one, ones), Change(two, twos)) == []
    assert ready.satisfied(ones, twos)


def test_a_prefix_moves_in_one_call_whether_its_old_peer_stays_or_goes(ready: World) -> None:
    one, two, three = a_peer(1, allowed_ips=("10.1.0.0/16", "10.2.0.0/16", "fd01::/32")), a_peer(2), a_peer(3)
    ready.made(one, two, three)
    left = one.model_copy(update={"allowed_ips": ("10.1.0.0/16",)})
    gains = two.model_copy(update={"allowed_ips": (*two.allowed_ips, "10.2.0.0/16", *three.allowed_ips)})
    assert ready.apply(Change(three, None), Change(one, left), Change(two, gains)) == []
    assert ready.satisfied(left, gains)
    assert set(named(ready)) == {left.public_key, gains.public_key}


def test_what_goes_to_nobody_is_with_nobody_and_no_other_peer_is_left(ready: World) -> None:
    many = a_peer(1, allowed_ips=tuple(f"10.{100 + (i >> 8)}.{i & 255}.0/24" for i in range(1200)))
    ready.made(many, SIX)
    one = many.model_copy(update={"allowed_ips": many.allowed_ips[:1]})
    none = many.model_copy(update={"allowed_ips": ()})
    for before, after in ((many, one), (one, none), (none, many)):
        assert ready.apply(Change(before, after)) == []
        assert ready.satisfied(after, SIX)
        assert set(named(ready)) == {many.public_key, SIX.public_key}


def test_a_change_says_what_is_gained_and_lost_and_nothing_of_the_rest(ready: World) -> None:
    """What changed behind the agent's back is for the next look at the device to find."""
    one, thief = a_peer(1, allowed_ips=("10.1.0.0/16", "10.2.0.0/16")), a_peer(2, allowed_ips=("10.1.0.0/16",))
    ready.made(one, thief)
    after = one.model_copy(update={"allowed_ips": ("10.1.0.0/16", "10.3.0.0/16")})
    assert ready.apply(Change(one, after)) == []
    assert named(ready)[one.public_key].allowed_ips == ("10.3.0.0/16",)
    assert ready.satisfied(thief)


def test_an_allowed_ip_moves_to_the_last_that_claims_it_without_a_word(ready: World) -> None:
    one, thief = a_peer(1), a_peer(2, allowed_ips=("10.0.1.0/24", "10.0.2.0/24"))
    ready.made(one)
    assert ready.create(thief) == []
    assert named(ready)[one.public_key].allowed_ips == ()


def test_deleting_a_peer_leaves_the_others(ready: World) -> None:
    ready.made(FULL, SIX)
    assert ready.delete(FULL) == []
    assert ready.delete(FULL) == []
    assert set(named(ready)) == {SIX.public_key}


def test_changing_a_peer_that_is_gone_does_not_bring_it_back(ready: World) -> None:
    assert ready.apply(Change(SIX, SIX.model_copy(update={"keepalive": 5}))) == []
    assert ready.observe("peer") == []


def test_200_peers(ready: World) -> None:
    peers = [a_peer(number, endpoint=f"192.0.2.{number}:1000", keepalive=25) for number in range(1, 201)]
    assert ready.create(*peers) == []
    assert ready.satisfied(*peers)
    assert ready.delete(*peers[:150]) == []
    assert set(named(ready)) == {peer.public_key for peer in peers[150:]}


def test_a_peer_with_2000_allowed_ips(ready: World) -> None:
    many = a_peer(1, allowed_ips=tuple(f"10.{100 + (i >> 8)}.{i & 255}.0/24" for i in range(2000)))
    ready.made(SIX, many, a_peer(2, allowed_ips=("fd02::/32",)))
    assert ready.satisfied(many, SIX)


def test_a_roamed_endpoint_stays_when_something_else_changes(ready: World) -> None:
    ready.made(FULL)
    if ready.fake is not None:
        ready.fake.handshake("wg0", FULL.public_key, endpoint="198.51.100.9:999")
    else:
        command = ["wg", "set", "wg0", "peer", FULL.public_key, "endpoint", "198.51.100.9:999"]
        subprocess.run(command, check=True)
    (seen,) = ready.observe("peer")
    after = FULL.model_copy(update={"keepalive": 5, "endpoint": seen.resource.endpoint})
    assert ready.apply(Change(seen.resource, after)) == []
    assert named(ready)[FULL.public_key].endpoint == "198.51.100.9:999"


def test_peers_go_with_their_link(ready: World) -> None:
    ready.made(FULL)
    assert ready.delete(LINK) == []
    assert (ready.observe("peer"), ready.observe("wireguard")) == ([], [])
    assert (ready.delete(FULL), ready.delete(DEVICE)) == ([], [])
    assert [failure.code for failure in ready.create(FULL)] == ["ENODEV"]


def test_another_owners_device_gets_no_peers_and_loses_none(ready: World) -> None:
    ready.made(FULL)
    if ready.fake is not None:
        link = ready.fake.stored["link"].pop(("wg0",))
        ready.fake.add(link.resource, None)
    else:
        ready.remove(LINK, "link set wg0 alias somebody")
    assert {one.marker for one in ready.observe("peer")}.isdisjoint({"gitwan"})
    assert ready.delete(FULL) == []
    assert ready.delete(DEVICE) == []
    assert [failure.code for failure in ready.create(SIX)] == ["EPERM"]
    assert set(named(ready)) == {FULL.public_key}
    assert not KINDS["wireguard"].owns(ready.observe("wireguard")[0])
