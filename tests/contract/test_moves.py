"""Packets through WireGuard while prefixes move from peer to peer and are taken away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.moves import ahead, measure
from reconciler.system.peer import PeerDriver
from tests.contract.conftest import WIREGUARD_WORLDS, World
from tests.contract.test_wireguard import DEVICE, LINK

RATE = 6.0 if os.environ.get("GITWAN_KERNEL") else 20.0
"""Packets a second in each of thirty flows; fewer where the processor is emulated."""


@pytest.mark.parametrize("world", WIREGUARD_WORLDS[1:], indirect=True)
def test_a_prefix_that_moves_or_goes_costs_no_packet_of_any_other(
    world: World, tmp_path: Path, measured: dict[str, list[tuple[str, str]]]
) -> None:
    driver = world.drivers["peer"]
    assert isinstance(driver, PeerDriver)
    with ahead():
        world.made(LINK, DEVICE)
        found = measure(driver, "wg0", tmp_path, RATE)
    text = f"{found.lost} of {found.arrived + found.lost} packets lost"
    measured.setdefault("prefixes", []).append(("200 moves and 200 removals among 5,000", text))
    assert found.lost == 0
