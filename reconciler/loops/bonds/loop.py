"""Looks at the bonds that the plan names, and says what the policy makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

from reconciler.conditions import Condition
from reconciler.errors import CycleError
from reconciler.host import Host
from reconciler.kinds.link import BondState
from reconciler.loops.bonds.policy import Policy
from schema.plan import Bond

INTERVAL = 10.0
"""Seconds between two looks."""


class Reader(Protocol):
    """Where bonds are read (`system/bond.py`)."""

    def read(self, names: Collection[str]) -> tuple[dict[str, BondState], dict[str, int]]: ...


class Bonds:
    """The bonds under this host's tunnels. `in_kernel` runs a function in the thread that the kernel is touched in."""

    def __init__(
        self, host: Host, in_kernel: Callable[[Callable[[], Any]], Awaitable[Any]], reader: Callable[[], Reader]
    ) -> None:
        self.host = host
        self._in_kernel = in_kernel
        self._new_reader = reader
        self._reader: Reader | None = None
        self._policies: dict[Bond, Policy] = {}

    async def run(self) -> None:
        """Until cancelled. Raises OSError where the kernel cannot be asked."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self._in_kernel(self.look)

    def look(self) -> None:
        """Once. A bond that is none on this machine, as in the lab, is the link driver's business or nobody's."""
        try:
            wanted = self.host.engine.confirmed_resources().runtime.bonds or ()
        except CycleError:
            return
        self._policies = {bond: self._policies.get(bond) or Policy(bond) for bond in wanted}
        if not wanted:
            self.host.remark("Bond", None)
            return
        self._reader = self._reader or self._new_reader()
        states, received = self._reader.read({bond.name for bond in wanted})
        there = {name: policy for bond, policy in self._policies.items() if (name := bond.name) in states}
        found = [complaint for name, policy in there.items() if (complaint := policy.look(states[name], received))]
        if found:
            text = "; ".join(complaint.text for complaint in found)
            self.host.remark("Bond", Condition("Bond", "False", found[0].reason, text))
        else:
            names = ", ".join(there)
            self.host.remark("Bond", Condition("Bond", "True", "Bonded", f"{names} as wanted") if there else None)
