"""Which prefixes a set of changes leaves to nobody, and who takes them away."""

from __future__ import annotations

from base64 import b64encode

from reconciler.kinds import KINDS
from reconciler.kinds.base import ALIAS, Observed
from reconciler.system.wg import ALLOWED_IPS
from reconciler.system.wg_moves import PARKED, freed, gained, parked
from schema.plan import Change, Peer


def peer(name: str, *prefixes: str) -> Peer:
    return Peer(dev="wg0", public_key=b64encode(name.encode().rjust(32)).decode(), allowed_ips=prefixes)


def test_a_peer_claims_what_it_did_not_have() -> None:
    assert gained(peer("a", "10.0.0.0/8"), peer("a", "10.0.0.0/8", "fd00::/8")) == ("fd00::/8",)
    assert gained(None, peer("a", "10.0.0.0/8", "fd00::/8")) == ("10.0.0.0/8", "fd00::/8")


def test_only_what_nobody_gains_is_freed() -> None:
    shrinks = Change(peer("a", "10.0.0.0/8", "10.1.0.0/16", "fd00::/8"), peer("a", "fd00::/8"))
    grows = Change(peer("b"), peer("b", "10.1.0.0/16"))
    assert freed([shrinks, grows]) == {"10.0.0.0/8": shrinks} == freed([grows, shrinks])


def test_a_new_peer_gains_and_a_deleted_one_takes_its_prefixes_with_it() -> None:
    shrinks = Change(peer("a", "10.0.0.0/8"), peer("a"))
    assert freed([shrinks, Change(None, peer("b", "10.0.0.0/8"))]) == {}
    assert freed([Change(peer("c", "fd00::/8"), None)]) == {}


def test_peers_that_swap_free_nothing() -> None:
    one, two = ("::/0",), ("0.0.0.0/0",)
    assert freed([Change(peer("a", *one), peer("a", *two)), Change(peer("b", *two), peer("b", *one))]) == {}


def test_many_prefixes_are_parked_in_parts_that_fit_into_a_message() -> None:
    prefixes = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(2 * ALLOWED_IPS + 1)]
    first = Change(peer("a", *prefixes[:10]), peer("a"))
    second = Change(peer("b", *prefixes[10:]), peer("b"))
    steps = parked(freed([first, second]))
    assert [len(step.allowed_ips) for step, _ in steps] == [ALLOWED_IPS, ALLOWED_IPS, 1]
    assert [changes for _, changes in steps] == [[first, second], [second], [second]]
    assert all(step.transient and step.public_key == PARKED for step, _ in steps)


def test_one_that_a_crash_left_behind_is_ours_to_delete() -> None:
    left = Peer(dev="wg0", public_key=b64encode(PARKED).decode(), allowed_ips=("10.0.0.0/8",))
    assert KINDS["peer"].owns(Observed(left, ALIAS))
