"""The fast path: apply a few changes by name, without reading all of the kernel's state.

The changes are computed against the mirror and applied in one message; the next reading verifies them. A change that
may wait for a process, has side effects on other resources, or was refused is left for a cycle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reconciler.base.errors import Transient
from reconciler.converge.converger import Converger
from reconciler.converge.diff import Desired, ResourceName, name_of
from reconciler.converge.layers import Composed
from reconciler.converge.wanted import Wanted
from reconciler.cycle.unfinished import unfinished
from reconciler.kinds.base import Failure, Observed
from reconciler.kinds.peer import is_name
from reconciler.report.report import Report
from schema.plan import Change, Key, Peer, Resource


class Delivery:
    """Applies owed changes to the kernel. The caller holds the lane."""

    def __init__(self, converger: Converger, wanted: Wanted) -> None:
        self._converger = converger
        self._wanted = wanted
        self._later: frozenset[str] = frozenset()

    @property
    def behind(self) -> bool:
        """Whether changes are left for a cycle."""
        return bool(self._later)

    def take_later(self) -> frozenset[str]:
        """Return and clear the kinds that are left for a cycle. The caller reads them."""
        kinds, self._later = self._later, frozenset()
        return kinds

    def quick(self) -> list[ResourceName]:
        """The owed changes that can be applied at once. The rest is left for a cycle."""
        owed, converger = self._wanted.owed, self._converger
        slow = {kind for kind, _ in owed if converger.kinds[kind].waits}
        later = converger.widen(slow) if slow else frozenset()
        if converger.busy is not None:
            # A driver that waits in the middle of a cycle must not be called again, nor the drivers of dependent kinds.
            later |= converger.widen({converger.busy})
        self._later |= {kind for kind, _ in owed if kind in later}
        return [name for name in owed if name[0] not in later]

    def deliver(self, report: Report, owed: list[ResourceName]) -> None:
        """Apply these changes. Raises CycleError or OSError; a refusal goes into the report."""
        converger, wanted, mirror = self._converger, self._wanted, self._converger.mirror
        wholes = {(whole, key[:1]) for kind, key in owed if (whole := converger.kinds[kind].part_of)}
        names = list({*owed, *wholes})
        unknown = frozenset(kind for kind, _ in names if not mirror.knows(kind))
        if unknown:
            converger.look(converger.beside(unknown))
        target = _some(wanted.current, names)
        found = converger.diff(target, mirror.of(names), wanted.acknowledged(target))
        of_owed = set(owed)
        changes = [change for change in found.changes if name_of(change.resource) in of_owed]
        for conflict in found.conflicts:
            self._refuse(report, name_of(conflict.resource), conflict.text)
        outcome = converger.deliver(changes)
        report.done.update(outcome.done)
        for failure in outcome.failures:
            self._refuse(report, name_of(failure.change.resource), unfinished([failure.change], [failure]).message)
        refused = {name_of(failure.change.resource) for failure in outcome.failures}
        wanted.fail(refused)
        wanted.settle(name for name in owed if name not in refused)
        apart = {one.resource.kind for one in changes if one.verb != "change"}
        moving = {kind for kind in apart if converger.carries(kind)} | {kind for kind, _ in refused}
        self._later |= converger.widen(moving) if moving else frozenset()

    def _refuse(self, report: Report, name: ResourceName, text: str) -> None:
        if self._wanted.current.names_in_plan(name):
            report.error = Transient("Applied", "Refused", text)
        else:
            self._wanted.refuse(name, text)
            report.unmet[name] = text

    # Endpoints that are DNS names

    def named_peers(self) -> tuple[dict[Key, Resource], list[Observed[Any]]]:
        """The plan's peers whose endpoints are DNS names, and the last reading of each."""
        of_plan = self._wanted.current.of_plan("peer")
        named: dict[Key, Resource] = {
            key: one for key, one in of_plan if isinstance(one, Peer) and one.endpoint and is_name(one.endpoint)
        }
        seen = (self._converger.mirror.get("peer", key) for key in named)
        return named, [one for one in seen if one is not None]

    def set_endpoints(self, changes: list[Change]) -> list[Failure]:
        """Set the endpoints of peers, unless a cycle is setting peers right now. Raises OSError."""
        return [] if self._converger.busy == "peer" else self._converger.deliver(changes).failures


def _some(current: Composed, names: Iterable[ResourceName]) -> Desired:
    """The wanted resources, limited to these names."""
    found: dict[str, dict[Key, Resource]] = {}
    for kind, key in names:
        of_kind = found.setdefault(kind, {})
        if (want := current.get((kind, key))) is not None:
            of_kind[key] = want
    return Desired(found)
