"""The agent with one more loop: it lets in the guests of a file, once, and keeps those that it finds after that.

python -m tests.drill.guests_agent agent run --config FILE
"""

from __future__ import annotations

import asyncio
import json

import gitwan
from reconciler import loops
from reconciler.converge.wanted import Scope
from reconciler.loops.base import Ground, Plug, Quiet
from schema.plan import Peer

DEVICE = "wg0"


class Guests(Quiet):
    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def run(self) -> None:
        found = [one.resource for one in self._ground.adoptable()]
        file = self._ground.folder / "guests.json"
        if not found and file.exists():
            found = [Peer.model_validate(one) for one in json.loads(file.read_text())]
        await self._ground.change(put=found)
        self._ground.show([{"adopted": [one.public_key for one in found]}])
        await asyncio.Event().wait()


PLUG = Plug(
    name="guests",
    settings=lambda runtime: ("whatever the plan says",),
    make=Guests,
    shows=True,
    scopes=lambda runtime: [Scope("guests", "peer", (DEVICE,))],
)

if __name__ == "__main__":
    loops.LOOPS = (*loops.LOOPS, PLUG)
    gitwan.main()
