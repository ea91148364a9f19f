"""A kernel that refuses, forgets and interrupts at random: every run converges, or stops with a reason.

Refusals are real: the message that is to be refused is sent as one that no kernel knows, so it changes nothing, and the
kernel's answer to it gets the errno of the script.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any

import pytest

from reconciler.cycle import preview
from reconciler.cycle.engine import Engine
from reconciler.kinds import KINDS
from reconciler.report.report import Acquired, Candidate, Report
from reconciler.state.inventory import Inventory
from reconciler.state.store import Store
from reconciler.system import Context, drivers
from reconciler.system import netlink as module
from reconciler.system.netlink import Message, Netlink
from schema.plan import Address, HostPlan, Link, Member, Nexthop, Resource, Route, Rule
from tests.namespaces import private_network, run

pytestmark = pytest.mark.root

REFUSALS = (errno.EBUSY, errno.ENOBUFS, errno.EEXIST, errno.ENODEV, errno.EPERM, errno.EINTR)
BROKEN_READS = ("interrupted", "truncated", "lost", "signal")
UNKNOWN_TYPE = 0x3FF0
_HEADER = Struct("=IHHII")
CYCLES = 12
"""Cycles after which a run must have come to an end; faults stop before."""


@dataclass
class Kernel:
    """Faults to come, and what was asked of the kernel."""

    random: random.Random = field(default_factory=random.Random)
    left: int = 0
    """How many faults are still to come; none where it is 0."""
    requests: int = 0
    refused: dict[int, int] = field(default_factory=dict)

    def strikes(self) -> bool:
        if self.left and self.random.random() < 0.25:
            self.left -= 1
            return True
        return False


KERNEL = Kernel()


class FaultyNetlink(Netlink):
    """The real socket with faults on both ways."""

    def _send(self, messages: Any) -> int:
        KERNEL.requests += len(messages)
        messages = list(messages)
        if KERNEL.strikes():
            number = KERNEL.random.choice(REFUSALS)
            if number == errno.ENOBUFS:
                raise OSError(number, os.strerror(number))
            at = KERNEL.random.randrange(len(messages))
            _, flags, body = messages[at]
            refused: Message = (UNKNOWN_TYPE, flags, body)
            messages[at] = refused
            sequence = super()._send(messages)
            KERNEL.refused[sequence - len(messages) + 1 + at] = number
            return sequence
        return super()._send(messages)

    def _receive(self) -> bytes:
        if KERNEL.strikes():
            return self._broken(KERNEL.random.choice(BROKEN_READS))
        return self._rewritten(super()._receive())

    def _broken(self, how: str) -> bytes:
        data = bytearray(self._rewritten(super()._receive()))
        if how == "truncated":
            raise OSError(errno.EMSGSIZE, "a netlink answer was longer than it may be")
        if how == "lost":
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if how == "signal":
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        length, kind, flags, sequence, port = _HEADER.unpack_from(data)
        _HEADER.pack_into(data, 0, length, kind, flags | module.NLM_F_DUMP_INTR, sequence, port)
        return bytes(data)

    def _rewritten(self, data: bytes) -> bytes:
        """The kernel's refusal of the unknown message, with the errno that the script wants."""
        out = bytearray(data)
        offset = 0
        while offset + 20 <= len(out):
            length, kind, _, sequence, _ = _HEADER.unpack_from(out, offset)
            if kind == 2 and sequence in KERNEL.refused:
                out[offset + 16 : offset + 20] = Struct("=i").pack(-KERNEL.refused.pop(sequence))
            offset += (length + 3) & ~3
        return bytes(out)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with private_network():
        # The drivers take their socket from the module when they are made.
        monkeypatch.setattr(module, "Netlink", FaultyNetlink)
        KERNEL.left = 0
        store = Store(tmp_path)
        store.open()
        found = drivers(Context(lambda ref: b"", Inventory(tmp_path / "inventory.json"), tmp_path / "services"))
        kinds = ("link", "address", "nexthop", "route", "rule")
        yield Engine(store=store, drivers={kind: found[kind] for kind in kinds}, kinds=KINDS, clock=lambda: 0.0)


def random_plan(dice: random.Random) -> HostPlan:
    """Bridges, addresses, nexthops with a group, routes of both families and rules; some of each."""
    found: list[Resource] = []
    links = dice.sample(["br-a", "br-b", "br-c"], dice.randint(1, 3))
    for n, name in enumerate(links):
        found += [
            Link(name=name, type="bridge", mtu=dice.choice([1400, 1420])),
            Address(dev=name, address=f"10.9.{n}.1/24"),
        ]
        found.append(Nexthop(id=117 + n, family="inet", dev=name))
    found.append(Nexthop(id=900, group=tuple(Member(id=117 + n) for n in range(len(links)))))
    for n in range(dice.randint(0, 30)):
        dev = dice.choice(links)
        found.append(Route(dst=f"10.{n}.0.0/24", nhid=900) if n % 3 else Route(dst=f"10.{n}.0.0/24", dev=dev))
        found.append(Route(dst=f"fd00:{n + 1:x}::/64", dev=dev))
    found += [Rule(family="inet", priority=100 + n, table=117) for n in range(dice.randint(0, 4))]
    return HostPlan.of("h", found)


def seeds() -> int:
    return int(os.environ.get("GITWAN_SEEDS", "100"))


def settle(engine: Engine, acquired: Acquired) -> tuple[Report, int]:
    """Cycles as the agent runs them, until one has nothing to say; the last report, and how many it took."""
    report = Report()
    for cycle in range(1, CYCLES + 1):
        known = engine.store.confirmed_or_none()
        rejected = engine.store.commits.rejected()
        fresh = acquired.candidate and acquired.candidate.commit not in rejected
        wanted = acquired if fresh and (known is None or known.commit != acquired.commit) else None
        report = engine.converge(wanted)
        if report.error is None and not report.operations and not KERNEL.left:
            return report, cycle
        if cycle == CYCLES // 2:
            KERNEL.left = 0
    return report, CYCLES


def test_every_run_converges_or_stops_with_a_reason(engine: Engine) -> None:
    stopped, converged, most = 0, 0, 0
    for seed in range(seeds()):
        dice = random.Random(seed)
        candidate = Candidate.of(f"{seed:040x}", random_plan(dice))
        KERNEL.random, KERNEL.left, KERNEL.requests = dice, dice.randint(1, 12), 0
        report, cycles = settle(engine, Acquired(commit=candidate.commit, candidate=candidate))
        assert report.error is None, (seed, report.error.message)
        confirmed = engine.store.confirmed_or_none()
        if confirmed and confirmed.commit == candidate.commit:
            converged += 1
        else:
            rejected = engine.store.commits.rejected()[candidate.commit]
            assert rejected.reason and rejected.message, seed
            stopped += 1
        assert preview.convergence(engine).changes == [], seed
        most = max(most, KERNEL.requests)
        # Nothing loops hot: a cycle costs what there is to do, a few passes, and the way back.
        assert KERNEL.requests <= 200 * cycles * 4, seed
    print(f"\n{seeds()} seeds: {converged} converged, {stopped} went back with a reason, most requests {most}")
    assert run("ip -j route show proto 117 table all") is not None
