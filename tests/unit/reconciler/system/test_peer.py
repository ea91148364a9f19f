"""What the driver tells WireGuard, against a model of what WireGuard makes of it, one step at a time."""

from __future__ import annotations

import errno
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.converge.executor import execute
from reconciler.kinds.base import ALIAS, Session
from reconciler.system.peer import PeerDriver
from reconciler.system.wg import DeviceSet, DeviceState, PeerSet, one_by_one
from reconciler.system.wg_devices import Device
from reconciler.system.wg_moves import PARKED
from schema.plan import Change, Peer, SecretRef
from schema.plan.change import diff
from schema.plan.fingerprint import preshared_fingerprint

PREFIXES = [f"10.{n}.0.0/16" for n in range(6)] + [f"10.{n}.1.0/24" for n in range(3)] + ["fd00::/8", "::/0"]
Allocation = Mapping[str, frozenset[str]]
"""Peer -> its prefixes; no prefix stands at two."""


def key(name: str) -> bytes:
    return name.encode().rjust(32)


def peers(allocation: Allocation) -> list[Peer]:
    return [
        Peer(dev="wg0", public_key=b64encode(key(name)).decode(), allowed_ips=tuple(sorted(prefixes)))
        for name, prefixes in allocation.items()
    ]


@dataclass
class Model:
    """WireGuard: a prefix belongs to the last peer that claimed it, and goes with the peer."""

    peers: set[bytes] = field(default_factory=set)
    table: dict[str, bytes] = field(default_factory=dict)
    refused: frozenset[bytes] = frozenset()
    """Peers that it will not have changed."""
    seen: list[dict[str, bytes]] = field(default_factory=list)
    """The table after each step, however small."""
    messages: int = 0

    def read(self, name: str) -> DeviceState:
        raise NotImplementedError

    def set_device(self, name: str, settings: DeviceSet) -> None:
        raise NotImplementedError

    def set_peers(self, name: str, peers: Sequence[PeerSet]) -> dict[int, OSError]:
        self.messages += bool(peers)
        for position, peer in enumerate(peers):
            if peer.public_key in self.refused:
                # A message ends at what is refused, and does not say where: what came before it is sent again.
                error = OSError(errno.EINVAL, "refused")
                return one_by_one(self, name, peers) if len(peers) > 1 else {position: error}
            for _ in self._set(peer):
                self.seen.append(dict(self.table))
        return {}

    def remember(self, name: str, peers: object) -> None:
        pass

    def _set(self, peer: PeerSet) -> Iterator[None]:
        if peer.remove or peer.public_key not in self.peers:
            if peer.remove or peer.update_only:
                self._drop(peer.public_key)
                self.peers.discard(peer.public_key)
                yield
                return
            self.peers.add(peer.public_key)
        if peer.replace_allowed_ips:
            self._drop(peer.public_key)
            yield
        for prefix in peer.allowed_ips:
            self.table[prefix] = peer.public_key
            yield
        if peer.transient:
            yield from self._set(PeerSet(peer.public_key, remove=True))

    def _drop(self, public: bytes) -> None:
        self.table = {prefix: one for prefix, one in self.table.items() if one != public}

    @property
    def allocation(self) -> Allocation:
        return {
            one.decode().strip(): frozenset(prefix for prefix, holder in self.table.items() if holder == one)
            for one in self.peers
        }


class OneDevice:
    """`Devices`, of which there is one, and it is ours."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def some(self, names: object) -> dict[str, Device]:
        return {"wg0": Device("wg0", ALIAS, self._model)}

    def changed(self) -> None:
        pass


def holding(allocation: Allocation, refused: frozenset[bytes] = frozenset()) -> tuple[Model, PeerDriver]:
    table = {prefix: key(name) for name, prefixes in allocation.items() for prefix in prefixes}
    model = Model({key(name) for name in allocation}, table, refused)
    return model, PeerDriver(cast(Any, OneDevice(model)), lambda reference: b"", lambda name: name)


@st.composite
def allocations(draw: st.DrawFn) -> Allocation:
    names = draw(st.lists(st.sampled_from("abcde"), unique=True))
    holders = draw(st.lists(st.sampled_from([*names, None]), min_size=len(PREFIXES), max_size=len(PREFIXES)))
    return {
        name: frozenset(prefix for prefix, holder in zip(PREFIXES, holders, strict=True) if holder == name)
        for name in names
    }


@given(allocations(), allocations(), st.booleans())
def test_what_stays_is_never_absent_and_what_moves_is_never_with_nobody(
    before: Allocation, after: Allocation, at_once: bool
) -> None:
    """Whether the changes come by way of the executor, which deletes last, or all in one call, in any order."""
    model, driver = holding(before)
    old = dict(model.table)
    new = {prefix: key(name) for name, prefixes in after.items() for prefix in prefixes}
    changes = diff(peers(before), peers(after))
    if at_once:
        assert driver.apply(changes) == []
    else:
        assert execute(changes, {"peer": driver}).failures == []
    assert model.allocation == after
    for table in model.seen:
        for prefix in old.keys() & new.keys():
            assert table.get(prefix) in (old[prefix], new[prefix])


@given(allocations(), allocations(), st.sets(st.sampled_from("abcde")))
def test_all_that_is_not_named_as_refused_was_done(before: Allocation, after: Allocation, refused: set[str]) -> None:
    model, driver = holding(before, frozenset(map(key, refused)))
    changes = diff(peers(before), peers(after))
    failed = {failure.change.resource.key for failure in driver.apply(changes)}
    assert failed <= {peer.key for peer in peers(dict.fromkeys(refused, frozenset()))}
    for change in changes:
        (name,) = (name for name in "abcde" if peers({name: frozenset()})[0].key == change.resource.key)
        if change.resource.key not in failed:
            assert model.allocation.get(name) == after.get(name)
    assert PARKED not in model.peers


def test_a_parked_peer_that_is_refused_is_a_failure_of_those_it_was_for() -> None:
    model, driver = holding({"a": frozenset(PREFIXES[:2]), "b": frozenset(PREFIXES[2:4])}, frozenset([PARKED]))
    one = {"a": frozenset(PREFIXES[:1]), "b": frozenset(PREFIXES[2:4])}
    changes = diff(peers({"a": frozenset(PREFIXES[:2])}), peers({"a": one["a"], "c": frozenset()}))
    (failure,) = driver.apply(changes)
    assert (failure.change, failure.code) == (changes[0], "EINVAL")
    assert key("c") in model.peers


@pytest.mark.parametrize(
    "before, after, messages",
    [
        ({"a": {0, 1}, "b": {2}}, {"a": {0}, "b": {1, 2}}, 1),
        ({"a": {0, 1}, "b": {2}}, {"a": {0}, "b": {2}}, 1),
        ({"a": {0, 1}}, {"a": {0}, "b": {1}}, 1),
        ({"a": {0}, "b": {1}}, {"a": {1}, "b": {0}}, 1),
        ({"a": {0}, "b": {1}}, {"b": {0, 1}}, 2),
        ({"a": {0}, "b": {1}}, {"a": {2}, "b": {1}}, 2),
    ],
    ids=["a move", "a removal", "a move to a new peer", "a swap", "a deleted peer's", "another instead"],
)
def test_no_more_messages_than_it_takes(before: dict[str, set[int]], after: dict[str, set[int]], messages: int) -> None:
    old, new = (
        {name: frozenset(PREFIXES[n] for n in numbers) for name, numbers in allocation.items()}
        for allocation in (before, after)
    )
    model, driver = holding(old)
    assert driver.apply(diff(peers(old), peers(new))) == []
    assert (model.allocation, model.messages) == (new, messages)


@dataclass
class Wire(Model):
    """The same, keeping what it is told, and what a device would show of it."""

    told: list[PeerSet] = field(default_factory=list)
    shown: list[Peer] = field(default_factory=list)

    def set_peers(self, name: str, peers: Sequence[PeerSet]) -> dict[int, OSError]:
        self.told += peers
        return {}


class Shown(OneDevice):
    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._wire = wire

    def read_shared(self, devices: object) -> list[tuple[Device, DeviceState]]:
        state = DeviceState("wg0", peers=[(one, Session(one.endpoint, 1.0)) for one in self._wire.shown])
        return [(Device("wg0", ALIAS, self._wire), state)]


SECRETS = {"psk": b"p" * 32, "short": b"p" * 16}
NAMES = {"a.example": "192.0.2.1", "b.example": "2001:db8::b"}
ONE = peers({"a": frozenset()})[0]


def wired() -> tuple[Wire, PeerDriver, list[str]]:
    wire, asked = Wire(), []  # type: ignore[var-annotated]

    def resolve(name: str) -> str:
        asked.append(name)
        return NAMES[name]

    secrets = lambda reference: SECRETS[reference.secret]  # noqa: E731
    return wire, PeerDriver(cast(Any, Shown(wire)), secrets, resolve), asked


def named(**changes: Any) -> Peer:
    return ONE.model_copy(update=changes)


def test_a_change_elsewhere_leaves_the_endpoint_to_whoever_has_roamed() -> None:
    wire, driver, _ = wired()
    there = named(endpoint="198.51.100.1:5000")
    assert driver.apply([Change(there, there.model_copy(update={"keepalive": 25}))]) == []
    (told,) = wire.told
    assert (told.endpoint, told.keepalive, told.update_only) == (None, 25, True)
    driver.apply([Change(there, there.model_copy(update={"endpoint": "[2001:db8::1]:5001"}))])
    assert wire.told[-1].endpoint == ("2001:db8::1", 5001)
    driver.apply([Change(None, there)])
    assert wire.told[-1].endpoint == ("198.51.100.1", 5000) and wire.told[-1].replace_allowed_ips


def test_a_preshared_key_is_set_if_it_is_the_one_that_is_meant() -> None:
    wire, driver, _ = wired()
    right = SecretRef(secret="psk", fingerprint=preshared_fingerprint(SECRETS["psk"]))
    wrong = [
        SecretRef(secret="psk", fingerprint=preshared_fingerprint(b"q" * 32)),
        SecretRef(secret="short", fingerprint=preshared_fingerprint(SECRETS["short"])),
        SecretRef(secret="nowhere", fingerprint=right.fingerprint),
    ]
    assert driver.apply([Change(ONE, named(preshared_key=right))]) == []
    assert wire.told.pop().preshared_key == SECRETS["psk"]
    for reference, code in zip(wrong, ("EKEYREJECTED", "EKEYREJECTED", "ENOKEY"), strict=True):
        (failure,) = driver.apply([Change(ONE, named(preshared_key=reference))])
        assert failure.code == code and "pppp" not in repr(failure)
        assert not wire.told
    assert driver.apply([Change(named(preshared_key=right), ONE)]) == []
    assert wire.told.pop().preshared_key == bytes(32), "the key of nobody takes it away"


def test_a_name_is_looked_up_once_for_all_that_are_set_together() -> None:
    wire, driver, asked = wired()
    two = peers({"b": frozenset()})[0].model_copy(update={"endpoint": "a.example:5001"})
    assert driver.apply([Change(None, named(endpoint="a.example:5000")), Change(None, two)]) == []
    assert asked == ["a.example"]
    assert [told.endpoint for told in wire.told] == [("192.0.2.1", 5000), ("192.0.2.1", 5001)]
    driver.apply([Change(None, two)])
    assert asked == ["a.example"] * 2, "and anew the next time"


def test_an_endpoint_is_shown_by_its_name_until_it_is_set_to_an_address() -> None:
    wire, driver, _ = wired()
    by_name = named(endpoint="a.example:5000")
    driver.apply([Change(None, by_name)])
    for shown, expected in (("192.0.2.1:5000", "a.example:5000"), ("192.0.2.7:4000", "192.0.2.7:4000")):
        wire.shown = [named(endpoint=shown)]
        assert [one.resource.endpoint for one in driver.observe()] == [expected]
    driver.apply([Change(by_name, named(endpoint="192.0.2.1:5000"))])
    wire.shown = [named(endpoint="192.0.2.1:5000")]
    assert [one.resource.endpoint for one in driver.observe()] == ["192.0.2.1:5000"]
    driver.apply([Change(named(endpoint="192.0.2.1:5000"), by_name), Change(by_name, None)])
    assert [one.resource.endpoint for one in driver.observe()] == ["192.0.2.1:5000"]
