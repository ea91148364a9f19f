"""The registry, and the kinds whose comparison is a line or two."""

from __future__ import annotations

import pytest

from reconciler.kinds import KINDS, companions, dependents
from reconciler.kinds.base import Kind, Observed
from schema.plan import RESOURCES, Nexthop, Resource, Route, SecretRef, Service, Sysctl, Wireguard
from schema.plan.nexthop import Member

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABgA="


def a_device(**fields: object) -> Wireguard:
    values = {"dev": "wg0", "private_key": SecretRef(secret="wan", fingerprint=KEY), "listen_port": 1}
    return Wireguard.model_validate(values | fields)


def test_every_resource_has_its_kind_in_the_same_order() -> None:
    assert list(KINDS) == list(RESOURCES)


def test_a_fact_that_is_left_out_is_named() -> None:
    with pytest.raises(TypeError, match="stands_on"):
        Kind(name="tunnel", marker=117, announced_by="nobody")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="tunnel: rtnetlink announces by messages"):
        Kind(name="tunnel", marker=117, stands_on=frozenset(), announced_by="rtnetlink")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.name))
def test_what_a_kind_says_of_others_is_so(kind: Kind) -> None:
    assert kind.stands_on | {kind.part_of} - {""} <= KINDS.keys()
    for other in kind.stands_on:
        assert RESOURCES[other].rank < RESOURCES[kind.name].rank, "what it stands on is made before it"


def test_what_moves_with_what() -> None:
    on_links = {"link", "sysctl", "wireguard", "address", "peer", "nexthop", "route"}
    assert dependents({"link"}) == on_links
    assert dependents({"address"}) == {"address", "nexthop", "route"}
    assert dependents({"wireguard"}) == {"wireguard", "peer"}
    assert dependents({"rule", "route"}) == {"rule", "route"}


def test_peers_are_seen_with_the_links_that_say_whose_they_are() -> None:
    assert companions({"peer", "rule"}) == {"peer", "rule", "link"}


@pytest.mark.parametrize(
    "kind, marker, ours",
    [
        ("route", 117, True), ("route", 4, False), ("rule", 117, True), ("address", None, False),
        ("nexthop", 117, True), ("link", "gitwan", True), ("link", None, False), ("peer", "gitwan", True),
        ("wireguard", "other", False), ("firewall", "GITWAN-", True), ("sysctl", "inventory", True),
        ("sysctl", None, False), ("service", "services", True), ("service", None, False),
    ],
)  # fmt: skip
def test_ownership_is_a_marker(kind: str, marker: int | str | None, ours: bool) -> None:
    assert KINDS[kind].owns(Observed(Route(dst="10.0.0.0/8"), marker)) is ours


@pytest.mark.parametrize(
    "found, wanted, satisfied",
    [
        (Sysctl(name="net/a/b", value="1\t2  3"), Sysctl(name="net/a/b", value="1 2 3"), True),
        (Sysctl(name="net/a/b", value="1"), Sysctl(name="net/a/b", value="2"), False),
        (a_device(private_key=SecretRef(secret="private-key", fingerprint=KEY)), a_device(fwmark=0), True),
        (a_device(), a_device(listen_port=2), False),
        (a_device(), a_device(fwmark=2), False),
        (a_device(), a_device(private_key=SecretRef(secret="wan", fingerprint="other")), False),
        (Nexthop(id=1, dev="a", family="inet"), Nexthop(id=1, dev="a"), True),
        (Nexthop(id=1, dev="a", family="inet"), Nexthop(id=1, dev="a", family="inet6"), False),
        (Nexthop(id=1, dev="a", family="inet"), Nexthop(id=1, dev="b"), False),
        (
            Nexthop(id=9, group=(Member(id=1), Member(id=2))),
            Nexthop(id=9, group=(Member(id=2), Member(id=1))),
            True,
        ),
        (
            Nexthop(id=9, group=(Member(id=1), Member(id=2))),
            Nexthop(id=9, group=(Member(id=1), Member(id=2, weight=2))),
            False,
        ),
        (Route(dst="10.0.0.0/8", dev="a"), Route(dst="10.0.0.0/8", dev="a"), True),
        (Route(dst="10.0.0.0/8", dev="a"), Route(dst="10.0.0.0/8", dev="b"), False),
    ],
)
def test_satisfied(found: Resource, wanted: Resource, satisfied: bool) -> None:
    assert KINDS[wanted.kind].satisfies(Observed(found), wanted, None) is satisfied


def test_a_service_that_has_ended_does_not_satisfy() -> None:
    wanted = Service(name="radvd", config="interface lan0 { };\n")
    assert KINDS["service"].satisfies(Observed(wanted, "services"), wanted, None)
    assert not KINDS["service"].satisfies(Observed(wanted, "services", up=False), wanted, None)
    other = wanted.model_copy(update={"config": ""})
    assert not KINDS["service"].satisfies(Observed(other, "services"), wanted, None)
