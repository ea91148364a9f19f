"""Composes what a plan wants, and takes the first reading of the tunnels and sessions that it names."""

from __future__ import annotations

from reconciler.base.errors import Stalled
from reconciler.converge import groups, takeover
from reconciler.converge.converger import Converger
from reconciler.converge.layers import NOTHING, Composed
from reconciler.converge.wanted import Wanted
from reconciler.report.report import Candidate
from reconciler.state.store import Store
from schema.plan import HostPlan, Key, Runtime


class Plans:
    """The plans that a cycle may lead to: a candidate's, and those in the store."""

    def __init__(self, store: Store, wanted: Wanted, converger: Converger) -> None:
        self._store = store
        self._wanted = wanted
        self._converger = converger
        self._awaited: frozenset[Key] = frozenset()
        """Peers of new keys that take over when they have a session."""
        self._looked_at: frozenset[str] = frozenset()
        """The links whose tunnels are already known to be alive or dead."""
        self.out: frozenset[str] = frozenset()
        """Tunnels that were dead at their first reading: the last prober had removed them from their groups."""

    def of(self, candidate: Candidate) -> Composed:
        """What a candidate's plan wants."""
        if candidate.digest == self._wanted.current.digest:
            return self._wanted.current
        return self._composed(candidate.plan, candidate.digest)

    def stored(self, digest: str) -> Composed:
        """What a stored plan wants; with "", what is wanted without a plan. Raises Stalled."""
        if not digest:
            return self._wanted.nothing()
        if self._wanted.current.digest == digest:
            return self._wanted.current
        return self._composed(self._store.load_plan(digest), digest)

    def stored_or_nothing(self, digest: str) -> Composed:
        """Like `stored`, but returns NOTHING if the plan is lost."""
        try:
            return self.stored(digest)
        except Stalled:
            return NOTHING

    def saw_peers(self) -> None:
        """The mirror has new peers: update which peers of new keys have a session."""
        mirror = self._converger.mirror
        self._wanted.set_sessions(takeover.up(mirror.get("peer", key) for key in self._awaited))

    def forget_others(self, runtime: Runtime) -> None:
        """Forget tunnels that the plan does not name, so that a link that returns later is read again."""
        watches = runtime.watches or ()
        devs = {tunnel.dev for watch in watches for tunnel in watch.tunnels}
        self._looked_at &= {watch.name for watch in watches}
        self.out &= devs
        self._wanted.set_alive(self._wanted.alive & devs)

    def _composed(self, plan: HostPlan, digest: str) -> Composed:
        self._learn(plan.runtime)
        return self._wanted.compose(plan, digest)

    def _learn(self, runtime: Runtime) -> None:
        """Read which of the plan's tunnels and sessions are alive, unless that is known already."""
        converger, wanted = self._converger, self._wanted
        if awaited := takeover.awaited(runtime):
            self._awaited = awaited | takeover.awaited(wanted.current.runtime)
            converger.look(converger.beside({"peer"}), frozenset(str(key[0]) for key in awaited))
        for watch in runtime.watches or ():
            if watch.name not in self._looked_at:
                self._looked_at |= {watch.name}
                kinds = {"link", "peer"} | groups.kinds(runtime)
                alive, out = groups.standing(runtime, watch, converger.look(converger.all_kinds & kinds))
                self.out |= out
                wanted.set_alive(wanted.alive | alive)
