"""What this host wants now: the plan in force, and the changes of loops and sessions to it. Pure.

The cost of a change depends on its size, not on the total: it is noted as *owed* until the kernel has it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from reconciler.converge import layers
from reconciler.converge.diff import Desired, Kinds, ResourceName
from reconciler.converge.layers import NO_USE, Amend, Composed, Overlay, Overlays, Refused, Unneeded, compose
from schema.plan import HostPlan, Key, Resource

__all__ = ["Amend", "Refused", "Scope", "Wanted"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an owner may have resources that outlived the agent: keys of a kind with this prefix."""

    owner: str
    kind: str
    prefix: Key = ()

    def covers(self, name: ResourceName) -> bool:
        return name[0] == self.kind and name[1][: len(self.prefix)] == self.prefix


class Wanted:
    """The layers of `layers.py`, and which of their changes the kernel does not have yet."""

    def __init__(self, kinds: Kinds, unneeded: Unneeded = layers.useful_to_all) -> None:
        self._kinds = kinds
        self._unneeded = unneeded
        self.overlays: Overlays = {}
        self.alive: frozenset[str] = frozenset()
        """The watched tunnels that carry traffic."""
        self.sessions: frozenset[Key] = frozenset()
        """Peers of new keys that have a session and so carry the traffic of the old keys."""
        self.current: Composed = self.nothing()
        self.owed: dict[ResourceName, Resource | None] = {}
        """What has changed, with the state that the kernel had acknowledged before."""
        self._refused_by_kernel: dict[ResourceName, Resource | None] = {}
        """Like `owed`, for changes that the kernel refused: the next reading retries them."""
        self.version = 0
        """Grows with every change."""
        self._scopes: dict[str, tuple[Scope, ...]] = {}
        self._refused: list[Refused] = []
        self._told: dict[tuple[str, ResourceName], str] = {}

    # Plans

    def compose(self, plan: HostPlan, digest: str) -> Composed:
        """What a plan would want."""
        kinds, version = self._kinds, self.version
        return compose(plan, digest, self.overlays, kinds, self.alive, self.sessions, version, self._unneeded)

    def nothing(self) -> Composed:
        """What is wanted without a plan: nothing, not even overlays."""
        return compose(HostPlan(host=""), "", {}, self._kinds)

    def forget(self) -> None:
        """Forget everything that is wanted, because the host is given back."""
        self.overlays.clear()
        self._scopes.clear()
        self.owed.clear()
        self._refused_by_kernel.clear()

    def use(self, composed: Composed) -> Composed:
        """Put this in force; it is composed again if anything has changed since."""
        if composed is not self.current:
            if composed.digest and composed.version != self.version:
                composed = self.compose(composed.plan, composed.digest)
            self.current = composed
            refused = [*composed.left_out.values(), *composed.unamended.values()]
            self._refused += [one for one in refused if one.text != NO_USE]  # the owner reads the plan too
        return self.current

    def confirm(self) -> None:
        """Confirm the plan in force. What it left out of overlays is deleted, so that no later plan revives it."""
        for refused in self.current.left_out.values():
            self.overlays[refused.owner].remove(refused.name)
        for owner, name in self.current.unamended:
            self.overlays[owner].amends.pop(name, None)
        self.current.left_out.clear()
        self.current.unamended.clear()

    # Overlays

    def change(
        self,
        owner: str,
        put: Iterable[Resource] = (),
        drop: Iterable[ResourceName] = (),
        amend: Iterable[Amend] = (),
    ) -> list[Refused]:
        """Put, drop and amend resources for an owner. Returns the refused ones.

        An amendment replaces the owner's former one of the same resource; dropping the name ends it.
        """
        overlay = self._overlay(owner)
        self._scopes.pop(owner, None)  # the owner has said what it wants
        putting, amending, dropping = list(put), list(amend), list(drop)
        if amending or dropping or any(overlay.get((one.kind, one.key)) != one for one in putting):
            self.version += 1
        before: dict[ResourceName, Resource | None] = {}
        for name in (*dropping, *((one.kind, one.key) for one in putting)):
            self._take_back(overlay, name, before)
        refused = self._amend(overlay, amending, dropping, before)
        for resource in putting:
            refused += self._put(overlay, resource, before)
        for name in before:
            self._told.pop((owner, name), None)
        self._note(before)
        return refused

    def replace(self, owner: str, resources: Iterable[Resource]) -> list[Refused]:
        """Make these the only resources of an owner. Returns the refused ones."""
        overlay = self._overlay(owner)
        new = {(one.kind, one.key): one for one in resources}
        drop = [name for name in overlay.names() if name not in new]
        return self.change(owner, [one for name, one in new.items() if overlay.get(name) != one], drop)

    def has(self, name: ResourceName) -> bool:
        """Whether an overlay adds or amends this resource."""
        return any(one.get(name) is not None or name in one.amends for one in self.overlays.values())

    def give_up(self, name: ResourceName, text: str) -> bool:
        """End every amendment of a resource, as the plan cannot be applied with it. Returns whether there was one."""
        before: dict[ResourceName, Resource | None] = {}
        for owner, overlay in self.overlays.items():
            if name in overlay.amends:
                self._amend(overlay, [], [name], before)
                self._refused.append(Refused(owner, *name, text))
        self.version += bool(before)
        self._note(before)
        return bool(before)

    def refuse(self, name: ResourceName, text: str) -> None:
        """Tell the owners of a resource that they cannot have it now."""
        for owner, overlay in self.overlays.items():
            if (overlay.get(name) is not None or name in overlay.amends) and self._told.get((owner, name)) != text:
                self._told[owner, name] = text
                self._refused.append(Refused(owner, *name, text))

    def refusals(self, owners: Container[str]) -> list[Refused]:
        """The refusals for these owners since the last call, except those that `change` has returned."""
        found = [one for one in self._refused if one.owner in owners]
        self._refused = [one for one in self._refused if one.owner not in owners]
        return found

    # Tunnels and sessions

    def set_alive(self, alive: frozenset[str]) -> None:
        """Set the watched tunnels that carry traffic."""
        if alive != self.alive:
            self.alive = alive
            self.version += 1
            self._move()

    def update_alive(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        """Set which of these watched tunnels carry traffic; other tunnels keep their state."""
        self.set_alive(self.alive - frozenset(watched) | alive)

    def set_sessions(self, sessions: frozenset[Key]) -> None:
        """Set the peers of new keys that have a session."""
        if sessions != self.sessions:
            self.sessions = sessions
            self.version += 1
            self._move()

    # After a restart

    def expect(self, owner: str, scopes: Iterable[Scope]) -> None:
        """Wait for an owner to say what it wants in its scopes."""
        self._overlay(owner)
        self._scopes[owner] = tuple(scopes)

    def waive(self) -> None:
        """Stop waiting: owners that have said nothing want nothing."""
        self._scopes.clear()

    def claimed(self, name: ResourceName) -> bool:
        """Whether an owner that has said nothing yet may want this."""
        return any(scope.covers(name) for scopes in self._scopes.values() for scope in scopes)

    # Owed changes

    def acknowledged(self, previous: Desired) -> Desired:
        """`previous`, with the kernel's last known state of everything that is owed."""
        if not (self.owed or self._refused_by_kernel):
            return previous
        owed: dict[str, dict[Key, Resource | None]] = {}
        for (kind, key), before in (self._refused_by_kernel | self.owed).items():
            owed.setdefault(kind, {})[key] = before
        return Desired({kind: _Before(owed.get(kind, {}), previous.kind(kind)) for kind in self._kinds})

    def settle(self, names: Iterable[ResourceName]) -> None:
        """The kernel has these as wanted."""
        for name in names:
            self.owed.pop(name, None)
            self._refused_by_kernel.pop(name, None)
        # A dictionary that was emptied takes as long to iterate as when it was full.
        self.owed = self.owed or {}
        self._refused_by_kernel = self._refused_by_kernel or {}

    def fail(self, names: Iterable[ResourceName]) -> None:
        """The kernel refused these. The plan's stay owed; others wait for a change or the next reading."""
        for name in names:
            if name in self.owed and not self.current.names_in_plan(name):
                self._refused_by_kernel.setdefault(name, self.owed.pop(name))

    def pending(self, covered: Callable[[ResourceName], bool]) -> dict[ResourceName, Resource | None]:
        """The unsettled resources that a reading covers, with their currently wanted values."""
        return {name: self.current.get(name) for name in {**self.owed, **self._refused_by_kernel} if covered(name)}

    def settle_as(self, pending: Mapping[ResourceName, Resource | None]) -> None:
        """The kernel has these as they were wanted then; later changes are still owed."""
        self.settle([name for name, want in pending.items() if self.current.get(name) is want])

    # Inside

    def _overlay(self, owner: str) -> Overlay:
        return self.overlays.setdefault(owner, Overlay(owner))

    def _remember(self, name: ResourceName, before: dict[ResourceName, Resource | None]) -> Resource | None:
        found = self.current.get(name)
        before.setdefault(name, found)
        return found

    def _take_back(self, overlay: Overlay, name: ResourceName, before: dict[ResourceName, Resource | None]) -> None:
        there = overlay.get(name)
        if there is None:
            return
        self._remember(name, before)
        if self.current.left_out.pop(name, None) is None:
            layers.release(self.current, name, there, self._kinds)
        overlay.remove(name)

    def _put(self, overlay: Overlay, resource: Resource, before: dict[ResourceName, Resource | None]) -> list[Refused]:
        name = resource.kind, resource.key
        if self.current.digest and self._unneeded(overlay.owner, self.current.runtime):
            return [Refused(overlay.owner, *name, NO_USE)]
        self._remember(name, before)
        older = self._rank(overlay)
        for other in self._others(resource, name):
            if self.current.rank(other, self.overlays) > older:
                self._evict(other, f"{overlay.owner} is the older owner", before)
        if name[1] in self.current.layers(name[0]) and not self.current.names_in_plan(name):
            return [Refused(overlay.owner, *name, f"{resource.kind} {resource.label} has an older owner")]
        for other_owner in self.overlays.values():
            if name in self.current.left_out and other_owner is not overlay:
                other_owner.remove(name)  # the other owner had lost it already
        self.current.left_out.pop(name, None)
        overlay.put.setdefault(name[0], {})[name[1]] = resource
        refused = layers.add_one(self.current, overlay, name, self._kinds)
        if refused is None:
            return []
        overlay.remove(name)
        return [refused]

    def _others(self, resource: Resource, name: ResourceName) -> list[ResourceName]:
        """The resources that hold the key or an exclusive claim of this one."""
        held = self.current.claims[name[0]]
        keys = {held[claim] for claim in self._kinds[name[0]].claims(resource) if claim in held}
        return [(name[0], key) for key in {*keys, name[1]} if self.current.get((name[0], key)) is not None]

    def _rank(self, overlay: Overlay) -> int:
        return 1 + list(self.overlays).index(overlay.owner)

    def _evict(self, name: ResourceName, text: str, before: dict[ResourceName, Resource | None]) -> None:
        for overlay in self.overlays.values():
            if overlay.get(name) is not None:
                self._take_back(overlay, name, before)
                self._refused.append(Refused(overlay.owner, *name, text))

    def _amend(
        self,
        overlay: Overlay,
        amends: list[Amend],
        ended: Iterable[ResourceName],
        before: dict[ResourceName, Resource | None],
    ) -> list[Refused]:
        """Amend, and end amendments; the plan regains what its resource had lost, whoever holds it now."""
        gone = [name for name in dict.fromkeys(ended) if name in overlay.amends]
        for name in gone:
            del overlay.amends[name]
            self.current.unamended.pop((overlay.owner, name), None)
        overlay.amends |= {one.name: one for one in amends}
        for name in (*gone, *(one.name for one in amends)):
            self._remember(name, before)
        refused, displaced = layers.admit(self.current, self.overlays, overlay, amends, gone, self._kinds)
        for one in refused:
            del overlay.amends[one.name]
            del self.current.unamended[one.owner, one.name]
        for name in displaced:
            self._displace(name, before)
        return refused

    def _displace(self, name: ResourceName, before: dict[ResourceName, Resource | None]) -> None:
        """Evict the holder of a claim that the plan regains: an overlay's resource is deleted, an amendment ends."""
        if not self.current.names_in_plan(name):
            self._evict(name, "the plan has it", before)
            return
        for overlay in self.overlays.values():
            if name in overlay.amends:
                self._amend(overlay, [], [name], before)
                self._refused.append(Refused(overlay.owner, *name, "the plan has it"))

    def _move(self) -> None:
        """Recompute takeovers and groups."""
        old = self.current.moved
        new = layers.moved(self.current.plan, self.current.by_kind, self.alive, self.sessions)  # type: ignore[arg-type]
        names = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
        before = {name: self.current.get(name) for name in names}
        old.clear()
        old.update(new)
        for name in names:
            layers.refresh(self.current, self.overlays, name)
        self._note(before)

    def _note(self, before: Mapping[ResourceName, Resource | None]) -> None:
        for name, old in before.items():
            if self.current.get(name) != old:
                self.owed.setdefault(name, self._refused_by_kernel.pop(name, old))


class _Before(Mapping[Key, Resource]):
    """What the kernel had: the old state of what is owed, otherwise what is wanted."""

    def __init__(self, owed: Mapping[Key, Resource | None], rest: Mapping[Key, Resource]) -> None:
        self._owed = owed
        self._rest = rest

    def __getitem__(self, key: Key) -> Resource:
        found = self._owed[key] if key in self._owed else self._rest.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (key for key in {**self._owed, **dict.fromkeys(self._rest)} if self.get(key) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
