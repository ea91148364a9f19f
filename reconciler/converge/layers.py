"""Composes what a host should hold: the plan's resources, their replacements, and what loops add. Pure.

plan        written by the compiler
takeovers   a new key's tunnels with a session carry the traffic already        (`takeover.py`)
groups      nexthop groups without the dead tunnels                             (`groups.py`)
amendments  prefixes or members that loops add to or remove from plan resources
overlays    resources that loops want in addition to the plan
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from reconciler.converge import groups, takeover
from reconciler.converge.diff import Desired, Kinds, ResourceName, claim_all, claim_text
from schema.plan import HostPlan, Key, Resource, Runtime


@dataclass(frozen=True, slots=True)
class Amend:
    """What an owner adds to and removes from a resource of the plan: prefixes of a peer, members of a nexthop group."""

    kind: str
    key: Key
    gain: tuple[Any, ...] = ()
    lose: tuple[Any, ...] = ()

    @property
    def name(self) -> ResourceName:
        return self.kind, self.key


@dataclass(slots=True)
class Overlay:
    """The resources and amendments of one owner."""

    owner: str
    put: dict[str, dict[Key, Resource]] = field(default_factory=dict)
    amends: dict[ResourceName, Amend] = field(default_factory=dict)

    def get(self, name: ResourceName) -> Resource | None:
        return self.put.get(name[0], {}).get(name[1])

    def remove(self, name: ResourceName) -> None:
        self.put.get(name[0], {}).pop(name[1], None)

    def names(self) -> Iterator[ResourceName]:
        return ((kind, key) for kind, of_kind in self.put.items() for key in of_kind)


Overlays = dict[str, Overlay]
"""By owner, oldest first; an older owner wins."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A resource or amendment that an owner wanted and does not get, and the reason."""

    owner: str
    kind: str
    key: Key
    text: str

    @property
    def name(self) -> ResourceName:
        return self.kind, self.key


class Layers(Mapping[Key, Resource]):
    """A live view of the wanted resources of one kind. It copies nothing, so that a small change is cheap."""

    __slots__ = ("_kind", "_left_out", "_overlays", "over", "plan")

    def __init__(
        self, kind: str, plan: dict[Key, Resource], overlays: Overlays, left_out: Mapping[ResourceName, Refused]
    ) -> None:
        self.plan = plan
        self.over: dict[Key, Resource] = {}
        """Replacements of the plan's resources."""
        self._kind = kind
        self._overlays = overlays
        self._left_out = left_out

    def __getitem__(self, key: Key) -> Resource:
        found = self.over.get(key) or self.plan.get(key) or self.beside(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key: Key, default: Any = None) -> Any:
        return self.over.get(key) or self.plan.get(key) or self.beside(key) or default

    def beside(self, key: Key) -> Resource | None:
        """The resource that an overlay adds under this key."""
        for overlay in self._overlays.values():
            found = overlay.put.get(self._kind, {}).get(key)
            if found is not None and (self._kind, key) not in self._left_out:
                return found
        return None

    def _added(self) -> Iterator[tuple[Key, Resource]]:
        for overlay in self._overlays.values():
            for key, resource in overlay.put.get(self._kind, {}).items():
                if not self._left_out or (self._kind, key) not in self._left_out:
                    yield key, resource

    def __iter__(self) -> Iterator[Key]:
        return chain(self.plan, (key for key, _ in self._added()))

    def __len__(self) -> int:
        return len(self.plan) + sum(1 for _ in self._added())

    def items(self) -> ItemsView[Key, Resource]:
        # Iterates once; the inherited view would look up every key again.
        over = self.over
        plan = ((key, over.get(key, one)) for key, one in self.plan.items()) if over else self.plan.items()
        return chain(plan, self._added())  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Composed(Desired):
    """Everything that one plan wants. Overlays are shared with `Wanted`, so their changes show here."""

    plan: HostPlan = field(default_factory=lambda: HostPlan(host=""))
    digest: str = ""
    version: int = 0
    """The version of `Wanted` at composition."""
    moved: dict[ResourceName, Resource] = field(default_factory=dict)
    """The replacements by takeovers and groups of the plan's resources."""
    claims: dict[str, dict[Hashable, Key]] = field(default_factory=dict)
    """By kind: exclusive claims and their holders."""
    left_out: dict[ResourceName, Refused] = field(default_factory=dict)
    """Resources of overlays that conflict with this plan."""
    unamended: dict[tuple[str, ResourceName], Refused] = field(default_factory=dict)
    """Amendments that conflict with this plan, by owner."""

    @property
    def runtime(self) -> Runtime:
        """The plan's instructions for the agent itself."""
        return self.plan.runtime

    def layers(self, kind: str) -> Layers:
        found = self.by_kind[kind]
        assert isinstance(found, Layers)
        return found

    def get(self, name: ResourceName) -> Resource | None:
        return self.kind(name[0]).get(name[1])

    def of_plan(self, kind: str) -> Iterator[tuple[Key, Resource]]:
        """The plan's resources of a kind, as they are wanted now."""
        of_kind = self.by_kind.get(kind)
        if isinstance(of_kind, Layers):
            yield from ((key, of_kind.over.get(key, one)) for key, one in of_kind.plan.items())

    def names_in_plan(self, name: ResourceName) -> bool:
        """Whether the plan itself contains this resource."""
        return name[0] in self.by_kind and name[1] in self.layers(name[0]).plan

    def rank(self, name: ResourceName, overlays: Overlays) -> int:
        """The owner's rank: 0 for the plan, then overlays by age."""
        if self.names_in_plan(name):
            return 0
        return next((n for n, one in enumerate(overlays.values(), 1) if one.get(name) is not None), 0)


Unneeded = Callable[[str, Runtime], bool]
"""Whether a plan has no settings for an owner: then the owner's additions are useless, and go with the commit."""
NO_USE = "the plan has no use for it any more"


def useful_to_all(owner: str, runtime: Runtime) -> bool:
    """`Unneeded` for a plan that has settings for every owner."""
    return False


NOTHING = Composed({})
"""The state before anything was wanted."""


def compose(
    plan: HostPlan,
    digest: str,
    overlays: Overlays,
    kinds: Kinds,
    alive: frozenset[str] = frozenset(),
    sessions: frozenset[Key] = frozenset(),
    version: int = 0,
    unneeded: Unneeded = useful_to_all,
) -> Composed:
    """Compose what a plan wants while these tunnels are alive and these peers of new keys have sessions."""
    base: dict[str, dict[Key, Resource]] = {kind: {} for kind in kinds}
    for resource in plan.resources:
        base[resource.kind][resource.key] = resource
    left_out: dict[ResourceName, Refused] = {}
    claims: dict[str, dict[Hashable, Key]] = {kind: {} for kind in kinds}
    layers = {kind: Layers(kind, base[kind], overlays, left_out) for kind in kinds}
    clashes = tuple(clash for kind in kinds for clash in claim_all(kinds[kind], base[kind], claims[kind]))
    replaced = moved(plan, layers, alive, sessions)
    composed = Composed(layers, clashes, plan, digest, version, replaced, claims, left_out)
    for name, one in replaced.items():
        layers[name[0]].over[name[1]] = one
    for owner, overlay in overlays.items():
        # No amendment is in force before its owner's turn.
        composed.unamended.update(((owner, one.name), _later(owner, one)) for one in overlay.amends.values())
    for owner, overlay in overlays.items():
        if unneeded(owner, plan.runtime):
            left_out.update((name, Refused(owner, *name, NO_USE)) for name in overlay.names())
            continue
        admit(composed, overlays, overlay, list(overlay.amends.values()), (), kinds)
        for name in overlay.names():
            if (refused := add_one(composed, overlay, name, kinds)) is not None:
                left_out[name] = refused
    return composed


def _later(owner: str, amend: Amend) -> Refused:
    return Refused(owner, amend.kind, amend.key, "its turn has not come")


def moved(
    plan: HostPlan, layers: Mapping[str, Layers], alive: frozenset[str], sessions: frozenset[Key]
) -> dict[ResourceName, Resource]:
    """The replacements by takeovers and groups of the plan's resources."""
    if not (plan.runtime.takeovers or plan.runtime.watches):
        return {}
    found = takeover.moved(plan.runtime, sessions)
    nexthops = {**layers["nexthop"].plan, **{key: one for (kind, key), one in found.items() if kind == "nexthop"}}
    found |= groups.moved(plan.runtime, nexthops, alive)
    return {name: one for name, one in found.items() if name[1] in layers[name[0]].plan}


def final(composed: Composed, overlays: Overlays, name: ResourceName) -> Resource | None:
    """A resource of the plan with its replacement and amendments; None if the plan does not contain it."""
    found = _base(composed, name)
    if found is None:
        return None
    for owner, overlay in overlays.items():
        amend = overlay.amends.get(name)
        if amend is not None and (owner, name) not in composed.unamended:
            found = found.amended(amend.gain, amend.lose)
    return found


def _base(composed: Composed, name: ResourceName) -> Resource | None:
    """Like `final`, without amendments."""
    return composed.moved.get(name) or composed.layers(name[0]).plan.get(name[1])


def admit(
    composed: Composed,
    overlays: Overlays,
    overlay: Overlay,
    amends: list[Amend],
    ended: Sequence[ResourceName],
    kinds: Kinds,
) -> tuple[list[Refused], list[ResourceName]]:
    """Apply one owner's amendments, all at once, and end those in `ended`.

    Returns the refused amendments, whose gains others hold, and the resources that lost a claim when the plan regained
    it. An amendment of a resource that the plan lacks waits for it.
    """
    owner = overlay.owner
    for amend in amends:
        composed.unamended.pop((owner, amend.name), None)
    trying = [amend for amend in amends if composed.names_in_plan(amend.name)]
    names = [name for name in {*ended, *(amend.name for amend in trying)} if composed.names_in_plan(name)]
    for name in names:
        if (there := composed.get(name)) is not None:
            release(composed, name, there, kinds)
    refused: list[Refused] = []
    while (bad := _infeasible(composed, overlays, trying, names, kinds)) is not None:
        amend, claim, holder = bad
        why = _refused(overlay, amend.name, claim, composed.get((amend.kind, holder)))
        composed.unamended[owner, amend.name] = why
        refused.append(why)
        trying.remove(amend)
    displaced: list[ResourceName] = []
    for name in names:
        refresh(composed, overlays, name)
        held, after = composed.claims[name[0]], composed.get(name)
        for claim in kinds[name[0]].claims(after) if after is not None else ():
            if held.get(claim, name[1]) != name[1]:
                displaced.append((name[0], held[claim]))
            held[claim] = name[1]
    return refused, displaced


def _infeasible(
    composed: Composed, overlays: Overlays, trying: Sequence[Amend], names: Sequence[ResourceName], kinds: Kinds
) -> tuple[Amend, Hashable, Key] | None:
    """The first amendment that would gain a claim of another holder, with that claim and its holder."""
    own = {name: set(kinds[name[0]].claims(one)) for name in names if (one := _base(composed, name)) is not None}
    wanted = {
        name: list(kinds[name[0]].claims(one)) for name in names if (one := final(composed, overlays, name)) is not None
    }
    taken = {(name[0], claim): name[1] for name, some in wanted.items() for claim in some if claim in own[name]}
    for amend in trying:
        for claim in wanted[amend.name]:
            if claim in own[amend.name]:
                continue
            holder = taken.setdefault((amend.kind, claim), composed.claims[amend.kind].get(claim, amend.key))
            if holder != amend.key:
                return amend, claim, holder
    return None


def refresh(composed: Composed, overlays: Overlays, name: ResourceName) -> None:
    """Recompute a resource of the plan."""
    kind, key = name
    of_kind = composed.layers(kind)
    found = final(composed, overlays, name)
    if found is None or found is of_kind.plan.get(key):
        of_kind.over.pop(key, None)
    else:
        of_kind.over[key] = found


def add_one(composed: Composed, overlay: Overlay, name: ResourceName, kinds: Kinds) -> Refused | None:
    """Claim what an overlay's resource needs, or return why that is impossible."""
    kind, key = name
    resource = overlay.get(name)
    assert resource is not None
    if composed.names_in_plan(name):
        return Refused(overlay.owner, kind, key, f"{kind} {resource.label} is the plan's")
    held, claimed = composed.claims[kind], list(kinds[kind].claims(resource))
    for claim in claimed:
        holder = held.get(claim, key)
        if holder != key:
            return _refused(overlay, name, claim, composed.get((kind, holder)))
    held.update(dict.fromkeys(claimed, key))
    return None


def release(composed: Composed, name: ResourceName, resource: Resource, kinds: Kinds) -> None:
    """Release the claims of a resource."""
    held = composed.claims[name[0]]
    for claim in kinds[name[0]].claims(resource):
        if held.get(claim) == name[1]:
            del held[claim]


def _refused(overlay: Overlay, name: ResourceName, claim: Hashable, holder: Resource | None) -> Refused:
    whose = holder.label if holder is not None else "something else"
    return Refused(overlay.owner, *name, f"{claim_text(claim)} belongs to {name[0]} {whose}")
