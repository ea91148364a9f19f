"""A bond's options as the kernel takes and shows them."""

from __future__ import annotations

import pytest

from reconciler.system.link import BOND_AD_LACP_RATE, BOND_MODE, decode_bond, encode_bond
from reconciler.system.netlink import attributes
from schema.plan import BondOptions

INDICES = {"eth0": 2, "eth1": 3}
NAMES = {2: "eth0", 3: "eth1"}


@pytest.mark.parametrize(
    "options",
    [
        BondOptions(),
        BondOptions(miimon=50, lacp_rate="fast", min_links=2, xmit_hash_policy="layer2+3"),
        BondOptions(mode="active-backup", primary="eth1"),
        BondOptions(mode="balance-xor", min_links=1),
    ],
)
def test_what_a_new_bond_is_told_is_what_it_shows(options: BondOptions) -> None:
    assert decode_bond(encode_bond(options, None, INDICES), NAMES) == options


def test_a_change_names_only_what_differs() -> None:
    before, after = BondOptions(min_links=1), BondOptions(min_links=1, lacp_rate="fast")
    assert attributes(encode_bond(after, before, INDICES)).keys() == {BOND_AD_LACP_RATE}
    assert attributes(encode_bond(before, after, INDICES)) == {BOND_AD_LACP_RATE: b"\0"}
    assert encode_bond(after, after, INDICES) == b""


def test_a_rate_that_the_mode_has_no_use_for_is_none() -> None:
    backup = encode_bond(BondOptions(mode="active-backup"), None, INDICES)
    assert decode_bond(backup + encode_bond(BondOptions(lacp_rate="fast"), BondOptions(), {}), NAMES).lacp_rate is None
    assert BOND_MODE in attributes(backup)
