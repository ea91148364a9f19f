"""Reads the bonds that the plan names, and reports the policy's findings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from reconciler.kinds.link import BondState
from reconciler.loops.base import Ground, Quiet
from reconciler.loops.bonds.policy import BondPolicy
from reconciler.report.conditions import Condition
from schema.plan import WatchedBond

INTERVAL = 10.0
"""Seconds between two readings."""


class Reader(Protocol):
    """Reads bonds (`system/bond.py`)."""

    def read(self, names: Collection[str]) -> tuple[dict[str, BondState], dict[str, int]]: ...


class BondsLoop(Quiet):
    """The bonds under this host's tunnels."""

    def __init__(self, ground: Ground, reader: Callable[[], Reader]) -> None:
        self._ground = ground
        self._new_reader = reader
        self._reader: Reader | None = None
        self._policies: dict[WatchedBond, BondPolicy] = {}

    async def run(self) -> None:
        """Check the bonds until cancelled. Raises OSError if the kernel cannot be asked."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self._ground.remark("Bond", await self._ground.in_lane(self.look))

    def look(self) -> Condition | None:
        """Check the bonds once. An interface that is no bond here, as in the lab, is left to the link driver."""
        wanted: tuple[WatchedBond, ...] = self._ground.settings
        self._policies = {bond: self._policies.get(bond) or BondPolicy(bond) for bond in wanted}
        if not wanted:
            return None
        self._reader = self._reader or self._new_reader()
        states, received = self._reader.read({bond.name for bond in wanted})
        there = {name: policy for bond, policy in self._policies.items() if (name := bond.name) in states}
        found = [complaint for name, policy in there.items() if (complaint := policy.look(states[name], received))]
        if found:
            return Condition("Bond", "False", found[0].reason, "; ".join(complaint.text for complaint in found))
        return Condition("Bond", "True", "Bonded", f"{', '.join(there)} as wanted") if there else None
