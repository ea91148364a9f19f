"""The difference of two sets of plans: the changes of each host, and how they disrupt running traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schema.ip import Prefix
from schema.plan import Change, Disruption, HostPlan, Resource, Route, Runtime, diff


@dataclass(frozen=True, slots=True)
class CostedChange:
    """One change with its disruption, judged in the context of the whole plan."""

    change: Change
    disruption: Disruption

    @property
    def cost(self) -> str:
        """The disruption in words, for people."""
        return self.change.cost if self.disruption == self.change.disruption else self.disruption.text


@dataclass(frozen=True, slots=True)
class HostDiff:
    """The changes of one host. `new` means that the host is added, `gone` that it is removed."""

    host: str
    steps: Sequence[CostedChange]
    settings: Sequence[str] = ()
    """Changes of the agent's settings, one line each."""
    new: bool = False
    gone: bool = False

    @property
    def disruption(self) -> Disruption:
        return max((step.disruption for step in self.steps), default=Disruption.NONE)

    def count(self, verb: str) -> int:
        return sum(step.change.verb == verb for step in self.steps)


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """All hosts with changes, by name, and the number of hosts without."""

    hosts: Sequence[HostDiff]
    untouched: int

    @property
    def disruption(self) -> Disruption:
        return max((host.disruption for host in self.hosts), default=Disruption.NONE)


def diff_plans(before: Mapping[str, HostPlan], after: Mapping[str, HostPlan]) -> PlanDiff:
    """The changes of a merge, for each host."""
    hosts = []
    for host in sorted(before.keys() | after.keys()):
        old, new = before.get(host), after.get(host)
        if old == new:
            continue
        changes = diff(old.resources if old else (), new.resources if new else ())
        kept = _Kept(new.resources if new else ())
        steps = tuple(CostedChange(change, kept.judge(change)) for change in changes)
        settings = _settings(old.runtime, new.runtime) if old and new else ()
        hosts.append(HostDiff(host, steps, settings, new=old is None, gone=new is None))
    return PlanDiff(hosts, len(before.keys() | after.keys()) - len(hosts))


WRITTEN = ("deadline", "probes")
"""Settings that people write. All others follow from the resources, which are shown."""
HEALTH = ("size", "interval", "misses", "loss", "hold")


def _settings(old: Runtime, new: Runtime) -> tuple[str, ...]:
    changed = [(name, getattr(old, name), getattr(new, name)) for name in WRITTEN]
    before = {watch.name: watch for watch in old.watches or ()}
    for watch in new.watches or ():
        if (was := before.get(watch.name)) is not None:
            changed += [(f"{watch.name} {name}", getattr(was, name), getattr(watch, name)) for name in HEALTH]
    return tuple(f"~ settings   {name}: {_short(was)} -> {_short(now)}" for name, was, now in changed if was != now)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} entries"
    return "default" if value is None else str(value)


class _Kept:
    """Finds out whether another route carries the traffic of a deleted route the same way. Then the deletion costs
    nothing."""

    def __init__(self, after: Sequence[Resource]) -> None:
        self.routes = [(Prefix.parse(r.dst), r) for r in after if isinstance(r, Route)]

    def judge(self, change: Change) -> Disruption:
        gone = change.before
        if change.after is None and isinstance(gone, Route) and (gone.type != "unicast" or self._covered(gone)):
            return Disruption.NONE
        return change.disruption

    def _covered(self, gone: Route) -> bool:
        prefix, way = Prefix.parse(gone.dst), _way(gone)
        # The longest remaining prefix decides where the traffic goes.
        left = [(p.length, -r.metric, r) for p, r in self.routes if r.table == gone.table and p.covers(prefix)]
        return bool(left) and _way(max(left, key=lambda item: item[:2])[2]) == way


def _way(route: Route) -> tuple[object, ...]:
    return (route.type, route.dev, route.via, route.nhid)
