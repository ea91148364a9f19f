"""Asks the criteria before and after a change, within the available time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from reconciler.converge.diff import Observation
from reconciler.converge.layers import Composed
from reconciler.cycle.probes import (
    CROWD,
    TRIES,
    Check,
    Criteria,
    LiveTunnel,
    counters,
    declared,
    family_kept,
    gateways,
    heard,
    tunnels,
    waits,
)
from reconciler.kinds.base import Observed
from reconciler.system.aside import Aside
from schema.plan import Key, Runtime

BEFORE = 1.0
"""Only what answers within this time before a change, in seconds, becomes a criterion after it."""
GLANCE, LONGEST_GLANCE = 0.05, 0.5
"""Seconds between two readings of the peers' counters; the pause grows while some peers are silent."""


class Prober(Protocol):
    """The effects: `system/probe.py`, assembled in `setup.py`."""

    def answered(self, checks: Sequence[Check], seconds: float) -> set[Check]:
        """The checks that were answered within `seconds`."""
        ...

    def provoke(self, tunnels: Iterable[LiveTunnel]) -> None:
        """Send each peer something that it answers."""
        ...

    def git(self) -> Check | None:
        """The git server that plans come from, by its address if known."""
        ...


Crowds = dict[str, list[LiveTunnel]]


@dataclass(slots=True)
class Probing:
    """Judges one host. `look` reads the kernel's peers on some devices, `routes` its routes. While it waits for
    answers, it steps `aside`, so that other threads can reach the kernel."""

    prober: Prober
    look: Callable[[Iterable[str]], Sequence[Observed[Any]]]
    routes: Callable[[], Sequence[Observed[Any]]]
    clock: Callable[[], float] = time.monotonic
    aside: Aside = nullcontext
    sleep: Callable[[float], None] = time.sleep
    _since: dict[Key, int] = field(default_factory=dict)
    """Bytes received from each peer up to the end of the change."""

    def before(self, previous: Composed, target: Composed, runtime: Runtime, observed: Observation) -> Criteria:
        """What answers now, and so must answer after the change. Takes at most a second."""
        steady, crowds, later = tunnels(previous, target, observed.get("peer", ()))
        members = [tunnel for some in crowds.values() for tunnel in some]
        checks = [*gateways(observed.get("route", ())), *declared(runtime)]
        self._since = self._counters([*steady, *members])
        silent = self._round(checks, [*steady, *members], {}, BEFORE)
        answered = [check for check in checks if check not in silent]
        loud = {dev: [tunnel for tunnel in some if tunnel not in silent] for dev, some in crowds.items()}
        if (git := self.prober.git()) is not None:
            answered.append(git)  # the commit has just come from there
        return Criteria(
            checks=[check for check in answered if not waits(check, later, target)],
            tunnels=[tunnel for tunnel in steady if tunnel not in silent],
            crowds={dev: some for dev, some in loud.items() if len(some) >= CROWD},
            later=later,
            later_checks=[check for check in answered if waits(check, later, target)],
        )

    def after(self, criteria: Criteria, seconds: float) -> list[Check | LiveTunnel]:
        """What no longer answers, asked three times within `seconds`."""
        end = self.clock() + seconds
        members = [tunnel for some in criteria.crowds.values() for tunnel in some]
        self._since = self._counters([*criteria.tunnels, *members, *criteria.later])
        checks, peers, crowds = list(criteria.checks), list(criteria.tunnels), dict(criteria.crowds)
        for tries_left in range(TRIES, 0, -1):
            slot = self.clock() + max(0.0, end - self.clock()) / tries_left
            asked = self._current(checks)
            silent = self._round([now for _, now in asked if now], peers, crowds, slot - self.clock())
            checks = [check for check, now in asked if now is None or now in silent]
            peers = [tunnel for tunnel in peers if tunnel in silent]
            crowds = {dev: some for dev, some in crowds.items() if some[0] in silent}
            if not (checks or peers or crowds):
                return []
            self._pause(max(0.0, slot - self.clock()))
        return [*checks, *peers, *(some[0] for some in crowds.values())]

    def awaited(self, later: Sequence[LiveTunnel]) -> list[LiveTunnel]:
        """The two-ended peers that have sent nothing since the change. Sends each of them something."""
        up = heard(self._since, self._look(later))
        left = [tunnel for tunnel in later if tunnel.key not in up]
        self.prober.provoke(left)
        return left

    def _look(self, tunnels: Iterable[LiveTunnel]) -> Sequence[Observed[Any]]:
        devices = {str(tunnel.key[0]) for tunnel in tunnels}
        return self.look(devices) if devices else ()

    def _counters(self, tunnels: Iterable[LiveTunnel]) -> dict[Key, int]:
        return counters(self._look(tunnels))

    def _pause(self, seconds: float) -> None:
        with self.aside():
            self.sleep(seconds)

    def _current(self, checks: Sequence[Check]) -> list[tuple[Check, Check | None]]:
        """Each check with what to ask now: a gateway may have been replaced, or be gone (None)."""
        now = gateways(self.routes()) if any(check.kind == "gateway" for check in checks) else []
        return [(check, family_kept(check, now) if check.kind == "gateway" else check) for check in checks]

    def _round(
        self, checks: Sequence[Check], peers: Sequence[LiveTunnel], crowds: Crowds, seconds: float
    ) -> set[Check | LiveTunnel]:
        """Ask each once. Returns those that stay silent; a silent crowd is represented by its first peer."""
        end = self.clock() + seconds
        answered: set[Check] = set()
        asking = threading.Thread(target=lambda: answered.update(self.prober.answered(checks, seconds)), daemon=True)
        if checks:
            asking.start()
        silent: set[Check | LiveTunnel] = set(self._silent(peers, crowds, end))
        if checks:
            with self.aside():
                asking.join()
        return silent.union(check for check in checks if check not in answered)

    def _silent(self, peers: Sequence[LiveTunnel], crowds: Crowds, end: float) -> list[LiveTunnel]:
        waiting, groups = list(peers), list(crowds.values())
        pause = GLANCE
        while waiting or groups:
            self.prober.provoke([*waiting, *(tunnel for some in groups for tunnel in some)])
            self._pause(pause)
            pause = min(LONGEST_GLANCE, 1.5 * pause)
            up = heard(self._since, self._look([*waiting, *(tunnel for some in groups for tunnel in some)]))
            waiting = [tunnel for tunnel in waiting if tunnel.key not in up]
            groups = [some for some in groups if not any(tunnel.key in up for tunnel in some)]
            if self.clock() >= end:
                break
        return [*waiting, *(some[0] for some in groups)]
