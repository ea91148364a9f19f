"""What is wanted of this host now: the plan in force, and what loops and sessions have made of it since. Pure.

A change costs what it changes, and not what exists: it is noted as *owed* until the kernel has it.
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
    """Where an owner may have put something that outlived the agent: keys of a kind that begin so."""

    owner: str
    kind: str
    prefix: Key = ()

    def covers(self, name: ResourceName) -> bool:
        return name[0] == self.kind and name[1][: len(self.prefix)] == self.prefix


class Wanted:
    """The layers of `layers.py`, and what of them the kernel does not have yet."""

    def __init__(self, kinds: Kinds, unneeded: Unneeded = layers.useful_to_all) -> None:
        self._kinds = kinds
        self._unneeded = unneeded
        self.overlays: Overlays = {}
        self.alive: frozenset[str] = frozenset()
        """Tunnels that carry traffic, of those that are watched."""
        self.sessions: frozenset[Key] = frozenset()
        """Peers of new keys that have a session, and so carry the traffic of the old."""
        self.current: Composed = self.nothing()
        self.owed: dict[ResourceName, Resource | None] = {}
        """What has changed, with what the kernel had acknowledged before."""
        self._refused_by_kernel: dict[ResourceName, Resource | None] = {}
        """The same of what was tried in vain: the next look tries it again."""
        self.version = 0
        """Grows with every change."""
        self._scopes: dict[str, tuple[Scope, ...]] = {}
        self._refused: list[Refused] = []
        self._told: dict[tuple[str, ResourceName], str] = {}

    # Plans

    def compose(self, plan: HostPlan, digest: str) -> Composed:
        """What would be wanted by a plan."""
        kinds, version = self._kinds, self.version
        return compose(plan, digest, self.overlays, kinds, self.alive, self.sessions, version, self._unneeded)

    def nothing(self) -> Composed:
        """What is wanted where there is no plan: not even what loops would like to add."""
        return compose(HostPlan(host=""), "", {}, self._kinds)

    def forget(self) -> None:
        """The host is given back: nobody wants anything any more."""
        self.overlays.clear()
        self._scopes.clear()
        self.owed.clear()
        self._refused_by_kernel.clear()

    def use(self, composed: Composed) -> Composed:
        """The kernel is led there from now on; composed anew where something has changed since it was."""
        if composed is not self.current:
            if composed.digest and composed.version != self.version:
                composed = self.compose(composed.plan, composed.digest)
            self.current = composed
            refused = [*composed.left_out.values(), *composed.unamended.values()]
            self._refused += [one for one in refused if one.text != NO_USE]  # its owner reads the plan, too
        return self.current

    def confirm(self) -> None:
        """The plan in force stays: what overlays had beside it goes, so that a later plan does not bring it back."""
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
        """Add or replace, withdraw, and amend what is the plan's; what of it is refused.

        An amendment takes the place of the owner's former one of the same resource; dropping its name ends it.
        """
        overlay = self._overlay(owner)
        self._scopes.pop(owner, None)  # it has spoken
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
        """Have an owner want just this."""
        overlay = self._overlay(owner)
        new = {(one.kind, one.key): one for one in resources}
        drop = [name for name in overlay.names() if name not in new]
        return self.change(owner, [one for name, one in new.items() if overlay.get(name) != one], drop)

    def has(self, name: ResourceName) -> bool:
        """Whether this is something that an overlay adds or amends."""
        return any(one.get(name) is not None or name in one.amends for one in self.overlays.values())

    def give_up(self, name: ResourceName, text: str) -> bool:
        """End every amendment of a resource: with it the plan cannot be applied. Whether there was one."""
        before: dict[ResourceName, Resource | None] = {}
        for owner, overlay in self.overlays.items():
            if name in overlay.amends:
                self._amend(overlay, [], [name], before)
                self._refused.append(Refused(owner, *name, text))
        self.version += bool(before)
        self._note(before)
        return bool(before)

    def refuse(self, name: ResourceName, text: str) -> None:
        """Tell the owners of something that it cannot be had now."""
        for owner, overlay in self.overlays.items():
            if (overlay.get(name) is not None or name in overlay.amends) and self._told.get((owner, name)) != text:
                self._told[owner, name] = text
                self._refused.append(Refused(owner, *name, text))

    def refusals(self, owners: Container[str]) -> list[Refused]:
        """What these owners have to be told since the last call, beside what `change` has told them."""
        found = [one for one in self._refused if one.owner in owners]
        self._refused = [one for one in self._refused if one.owner not in owners]
        return found

    # Tunnels and sessions

    def set_alive(self, alive: frozenset[str]) -> None:
        """These of the watched tunnels carry traffic now."""
        if alive != self.alive:
            self.alive = alive
            self.version += 1
            self._move()

    def update_alive(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        """Of the watched tunnels these carry traffic now; nothing is said of the others."""
        self.set_alive(self.alive - frozenset(watched) | alive)

    def set_sessions(self, sessions: frozenset[Key]) -> None:
        """These peers of new keys have a session now."""
        if sessions != self.sessions:
            self.sessions = sessions
            self.version += 1
            self._move()

    # After a restart

    def expect(self, owner: str, scopes: Iterable[Scope]) -> None:
        """An owner has yet to say what it wants of what lives in its scopes."""
        self._overlay(owner)
        self._scopes[owner] = tuple(scopes)

    def waive(self) -> None:
        """Whoever has not spoken by now wants nothing."""
        self._scopes.clear()

    def claimed(self, name: ResourceName) -> bool:
        """Whether an owner that has not spoken yet may want this."""
        return any(scope.covers(name) for scopes in self._scopes.values() for scope in scopes)

    # What is owed

    def acknowledged(self, previous: Desired) -> Desired:
        """`previous`, with what the kernel had of what is owed."""
        if not (self.owed or self._refused_by_kernel):
            return previous
        owed: dict[str, dict[Key, Resource | None]] = {}
        for (kind, key), before in (self._refused_by_kernel | self.owed).items():
            owed.setdefault(kind, {})[key] = before
        return Desired({kind: _Before(owed.get(kind, {}), previous.kind(kind)) for kind in self._kinds})

    def settle(self, names: Iterable[ResourceName]) -> None:
        """The kernel has these as they are wanted."""
        for name in names:
            self.owed.pop(name, None)
            self._refused_by_kernel.pop(name, None)
        # A dictionary that was emptied is as long to walk through as it was when it was full.
        self.owed = self.owed or {}
        self._refused_by_kernel = self._refused_by_kernel or {}

    def fail(self, names: Iterable[ResourceName]) -> None:
        """The kernel has refused these. What is the plan's stays owed; the rest waits for a change or the next look."""
        for name in names:
            if name in self.owed and not self.current.names_in_plan(name):
                self._refused_by_kernel.setdefault(name, self.owed.pop(name))

    def pending(self, covered: Callable[[ResourceName], bool]) -> dict[ResourceName, Resource | None]:
        """What is not settled of what a look covers, with what is wanted of it now."""
        return {name: self.current.get(name) for name in {**self.owed, **self._refused_by_kernel} if covered(name)}

    def settle_as(self, pending: Mapping[ResourceName, Resource | None]) -> None:
        """The kernel has these, as they were wanted then; what has changed since is still owed."""
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
                other_owner.remove(name)  # it had lost it already
        self.current.left_out.pop(name, None)
        overlay.put.setdefault(name[0], {})[name[1]] = resource
        refused = layers.add_one(self.current, overlay, name, self._kinds)
        if refused is None:
            return []
        overlay.remove(name)
        return [refused]

    def _others(self, resource: Resource, name: ResourceName) -> list[ResourceName]:
        """What has the key, or something that only one may have."""
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
        """Amend, and end amendments: then the plan has back what its resource had lost, whoever has that now."""
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
        """The plan has back something that another had: what an overlay adds goes, and an amendment ends."""
        if not self.current.names_in_plan(name):
            self._evict(name, "the plan has it", before)
            return
        for overlay in self.overlays.values():
            if name in overlay.amends:
                self._amend(overlay, [], [name], before)
                self._refused.append(Refused(overlay.owner, *name, "the plan has it"))

    def _move(self) -> None:
        """Takeovers and groups anew."""
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
    """What the kernel had: of what is owed as it was, else as it is wanted."""

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
