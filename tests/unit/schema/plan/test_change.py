from __future__ import annotations

import pytest

from bench.generate import key
from schema.plan import (
    BondOptions,
    Change,
    Disruption,
    Link,
    Member,
    Nexthop,
    Peer,
    Resource,
    Route,
    SecretRef,
    Service,
    Wireguard,
    diff,
)

PEER = Peer(dev="wg-b-1", public_key=key("b"), endpoint="192.0.2.1:5000", allowed_ips=("10.1.0.0/16",), name="b-gw")
BOND = Link(name="bond0", type="bond", mtu=1500, members=("eno1", "eno2"), bond=BondOptions())
LINK = Link(name="wg-b-1", type="wireguard", mtu=1420)
RADVD = Service(name="radvd", config="one\n  two\n")
DEVICE = Wireguard(dev="wg-b-1", private_key=SecretRef(secret="k", fingerprint="f"), listen_port=5000, leg=0)
ROUTE = Route(dst="10.0.0.0/8", dev="wg-b-1")


def test_equal_sets_have_no_difference() -> None:
    assert diff([LINK, ROUTE, PEER], [PEER, ROUTE, LINK]) == []


def test_a_difference_is_sorted_as_it_is_carried_out() -> None:
    assert [change.resource.kind for change in diff([], [ROUTE, PEER, LINK])] == ["link", "peer", "route"]


def test_one_key_is_one_thing() -> None:
    moved = ROUTE.model_copy(update={"dev": "wg-c-1"})
    assert diff([ROUTE], [moved]) == [Change(ROUTE, moved)]


@pytest.mark.parametrize(
    ("update", "cost"),
    [
        ({"allowed_ips": ("10.1.0.0/16", "10.2.0.0/16")}, Disruption.NONE),
        ({"allowed_ips": ("10.0.0.0/8",)}, Disruption.NONE),
        ({"allowed_ips": ("10.1.0.0/17",)}, Disruption.RESETS),
        ({"keepalive": 25}, Disruption.NONE),
        ({"preshared_key": SecretRef(secret="psk", fingerprint="x")}, Disruption.RESETS),
    ],
)
def test_what_a_change_of_a_peer_costs(update: dict[str, object], cost: Disruption) -> None:
    assert Change(PEER, PEER.model_copy(update=update)).disruption == cost


@pytest.mark.parametrize(
    ("before", "after", "cost"),
    [
        (None, LINK, Disruption.NONE),
        (LINK, None, Disruption.DROPS),
        (LINK, LINK.model_copy(update={"mtu": 1400}), Disruption.NONE),
        (LINK, Link(name="wg-b-1", type="bridge"), Disruption.DROPS),
        (ROUTE, None, Disruption.RESETS),
        (RADVD, RADVD.model_copy(update={"config": ""}), Disruption.NONE),
        (RADVD, None, Disruption.RESETS),
        (DEVICE, DEVICE.model_copy(update={"leg": 1}), Disruption.NONE),
        (DEVICE, DEVICE.model_copy(update={"leg": 1, "listen_port": 5001}), Disruption.RESETS),
    ],
)
def test_what_a_change_costs(before: Resource | None, after: Resource | None, cost: Disruption) -> None:
    assert Change(before, after).disruption == cost


@pytest.mark.parametrize(
    ("before", "update", "text"),
    [
        (PEER, {"allowed_ips": ("10.2.0.0/16",)}, "~ peer       wg-b-1 b-gw: allowed-ips +10.2.0.0/16 -10.1.0.0/16"),
        (PEER, {"endpoint": None}, "~ peer       wg-b-1 b-gw: endpoint 192.0.2.1:5000 -> none"),
        (LINK, {"mtu": 1400}, "~ link       wg-b-1: mtu 1420 -> 1400"),
        (RADVD, {"config": "one\n  three\n"}, "~ service    radvd: config +three -two"),
        (
            BOND,
            {"bond": BondOptions(min_links=2)},
            "~ link       bond0: bond mode 802.3ad hash layer3+4 miimon 100 -> "
            "mode 802.3ad hash layer3+4 miimon 100 min_links 2",
        ),
        (Nexthop(id=9, group=(Member(id=1),)), {"group": (Member(id=1), Member(id=2))}, "~ nexthop    id 9: group +2"),
    ],
)
def test_a_change_says_what_changes(before: Resource, update: dict[str, object], text: str) -> None:
    assert Change(before, before.model_copy(update=update)).describe() == text


def test_a_secret_shows_as_the_head_of_its_fingerprint() -> None:
    before = Wireguard(dev="wg0", private_key=SecretRef(secret="private-key", fingerprint=key("a")), listen_port=5000)
    after = before.model_copy(update={"private_key": SecretRef(secret="private-key", fingerprint=key("b"))})
    assert Change(before, after).describe() == f"~ wireguard  wg0: private-key {key('a')[:8]}… -> {key('b')[:8]}…"
