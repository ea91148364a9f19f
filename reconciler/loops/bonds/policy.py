"""Finds out what is wrong with a bond, from readings every few seconds. Pure.

The bond's state is judged first: a partner without LACP, options other than the plan's (if the operating system made
the bond: the kernel's default hash is different), a leg in another aggregator, a leg without a carrier. If the state is
good, arrivals are judged: it is a collision if two busy tunnels are on one leg while another leg is idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reconciler.kinds.link import BondState
from reconciler.loops.bonds.arrival import arrivals
from schema.leg import Sender
from schema.plan import Rider, WatchedBond

PATIENCE = 2
"""Number of consecutive readings with the same finding before it is reported: LACP takes seconds to negotiate."""
WINDOW = 30
FEWEST = 6
"""Arrivals are judged after at least this many readings, and again after as many."""
BUSY = 1_000_000.0
"""With more bytes between two readings, a tunnel counts as busy."""
MOST = 16
"""At most this many of the busiest tunnels are judged."""
SHARE, IDLE = 0.2, 0.1
"""A tunnel with this share of its leg's bytes collides. A leg with this share of the busiest one's bytes is idle."""
SURE = 0.5
TRIED, SUGGESTED = 64, 3


@dataclass(frozen=True, slots=True)
class Complaint:
    reason: str
    text: str


class BondPolicy:
    """One bond, reading by reading."""

    def __init__(self, bond: WatchedBond) -> None:
        self.bond = bond
        self._last: Complaint | None = None
        self._times = 0
        self._looks: deque[Mapping[str, int]] = deque(maxlen=WINDOW + 1)
        self._until_judged = FEWEST
        self._collision: Complaint | None = None

    def look(self, state: BondState, received: Mapping[str, int]) -> Complaint | None:
        """Judge a reading. `received` holds the bytes received by each interface since it was created."""
        found = complaint(self.bond, state)
        self._times = self._times + 1 if found and self._last and found.reason == self._last.reason else 1
        self._last = found
        self._count(received)
        if found is not None:
            return found if self._times >= PATIENCE else None
        return self._collision

    def _count(self, received: Mapping[str, int]) -> None:
        names = (*self.bond.members, *(rider.dev for rider in self.bond.tunnels))
        now = {name: received.get(name, 0) for name in names}
        if self._looks and any(now[name] < self._looks[-1][name] for name in names):
            self._looks.clear()  # an interface was created anew
            self._collision = None
        self._looks.append(now)
        self._until_judged -= 1
        if self._until_judged <= 0 and len(self._looks) > FEWEST:
            self._until_judged = FEWEST
            self._collision = collision(self.bond, {name: self._series(name) for name in names})

    def _series(self, name: str) -> list[float]:
        counts = [look[name] for look in self._looks]
        return [float(after - before) for before, after in pairwise(counts)]


def complaint(bond: WatchedBond, state: BondState) -> Complaint | None:
    """The fault in the state of a bond, the worst first."""
    legs = {leg.name: leg for leg in state.legs}
    lacp = state.mode == "802.3ad"
    alone = [name for name in bond.members if name not in legs]
    down = [leg.name for leg in state.legs if not leg.carrier]
    apart = [leg.name for leg in state.legs if lacp and leg.carrier and leg.aggregator != state.aggregator]
    if state.legs and len(down) == len(state.legs):
        return Complaint("LegDown", f"no leg of {bond.name} has a carrier: look at its cables and the switch's ports")
    if lacp and state.legs and not state.partner:
        text = f"nobody speaks LACP with {bond.name}: on the switch, make {_list(bond.members)} one group with LACP on"
        return Complaint("NoPartner", text)
    if state.mode != bond.mode or bond.hash not in (None, state.hash):
        wanted = f"{bond.mode}, {bond.hash}" if bond.hash else bond.mode
        text = f"{bond.name} is {state.mode}, {state.hash}; the plan counts on {wanted}: change one of the two"
        return Complaint("OtherOptions", text)
    if alone:
        return Complaint("MemberApart", f"{_list(alone)} {_is(alone)} no member of {bond.name}")
    if apart:
        text = f"{_list(apart)} of {bond.name} {_is(apart)} in another aggregator than the rest, and unused: "
        return Complaint("MemberApart", f"{text}on the switch, look at its group, LACP, speed and duplex")
    if down:
        return Complaint("LegDown", f"{_list(down)} of {bond.name} {_is(down)} without a carrier: look at the cable")
    return None


def collision(bond: WatchedBond, series: Mapping[str, Sequence[float]]) -> Complaint | None:
    """Two busy tunnels that certainly arrive on one leg while another is idle."""
    count = len(next(iter(series.values()), ()))
    if bond.mode == "active-backup" or len(bond.members) < 2 or not count:
        return None
    total = {name: sum(values) for name, values in series.items()}
    busy = sorted((rider for rider in bond.tunnels if total[rider.dev] > BUSY * count), key=lambda r: -total[r.dev])
    busiest = max(total[name] for name in bond.members)
    idle = [name for name in bond.members if total[name] < IDLE * busiest]
    if len(busy) < 2 or not idle:
        return None
    busy = busy[:MOST]
    found = arrivals([series[name] for name in bond.members], [series[rider.dev] for rider in busy])
    for n, name in enumerate(bond.members):
        those = [
            rider
            for rider, arrival in zip(busy, found, strict=True)
            if arrival.leg == n and arrival.confidence >= SURE and total[rider.dev] > SHARE * total[name]
        ]
        if len(those) > 1:
            return Complaint("TunnelsCollide", _collision_text(bond, name, those, idle))
    return None


def _collision_text(bond: WatchedBond, leg: str, those: Sequence[Rider], idle: Sequence[str]) -> str:
    last = those[-1]
    pairs = ", ".join(f"{port} here with {far} there" for port, far in ports_to_try(bond, last))
    text = (
        f"{_list([rider.dev for rider in those])} all arrive by {leg} of {bond.name} while {_list(idle)} {_is(idle)} "
        "idle: the switch chooses that, often by the ports"
    )
    if not pairs:
        return text
    where = f"in place of {last.port} with {last.far_port}"
    return f"{text}; for {last.dev} try {pairs} {where}, in the link's `ports:` or in fabric.lock"


def ports_to_try(bond: WatchedBond, rider: Rider) -> list[tuple[int, int]]:
    """Pairs (here, there) of ports that the usual hash puts on another leg inbound, and on the same leg outbound.

    Other listeners at the far end are not known here; the compiler reports a port in use.
    """
    own = {other.port for other in bond.tunnels}
    far = {other.far_port for other in bond.tunnels if other.target == rider.target}
    legs = len(bond.members)
    sender = Sender.of(rider.source, rider.target, legs) if rider.source and rider.target else Sender(legs, 0)
    out, back = sender.leg(rider.port, rider.far_port), sender.leg(rider.far_port, rider.port)
    found: list[tuple[int, int]] = []
    for port, there in _near(rider):
        free = (port == rider.port or port not in own) and there not in far
        if free and sender.leg(port, there) == out and sender.leg(there, port) != back:
            found.append((port, there))
        if len(found) == SUGGESTED:
            break
    return found


def _near(rider: Rider) -> Iterator[tuple[int, int]]:
    """Pairs near a tunnel's own, with its own port first, so that only the other end's port changes."""
    for step in range(TRIED):
        for there in range(rider.far_port + 1, min(rider.far_port + TRIED, 65536)):
            if rider.port + step < 65536:
                yield rider.port + step, there


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
