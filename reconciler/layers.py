"""What a host should hold by one plan: its resources, what stands in their place, and what loops add. Pure.

plan        what the compiler wrote
takeovers   a new key's tunnels that have a session carry the traffic already   (`takeover.py`)
groups      nexthop groups without the tunnels that are dead                    (`groups.py`)
amendments  a prefix or a member that a loop has one of the plan's gain or lose
overlays    what loops want beside the plan
"""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from reconciler import groups, takeover
from reconciler.diff import ByKey, Conflict, Desired, Kinds, Name, claim_text
from schema.plan import HostPlan, Key, Resource, Runtime


@dataclass(frozen=True, slots=True)
class Amend:
    """What an owner has a resource of the plan gain and lose: prefixes of a peer, members of a nexthop group."""

    kind: str
    key: Key
    gain: tuple[Any, ...] = ()
    lose: tuple[Any, ...] = ()

    @property
    def name(self) -> Name:
        return self.kind, self.key


@dataclass(slots=True)
class Overlay:
    """What one owner wants beside the plan, and of it."""

    owner: str
    put: dict[str, dict[Key, Resource]] = field(default_factory=dict)
    amends: dict[Name, Amend] = field(default_factory=dict)

    def get(self, name: Name) -> Resource | None:
        return self.put.get(name[0], {}).get(name[1])

    def remove(self, name: Name) -> None:
        self.put.get(name[0], {}).pop(name[1], None)

    def names(self) -> Iterator[Name]:
        return ((kind, key) for kind, of_kind in self.put.items() for key in of_kind)


Overlays = dict[str, Overlay]
"""By owner, the oldest first: it wins against the younger ones."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What an owner wanted and does not get, and why."""

    owner: str
    kind: str
    key: Key
    text: str

    @property
    def name(self) -> Name:
        return self.kind, self.key


class Layers(Mapping[Key, Resource]):
    """One kind of what is wanted, as it is at this moment: nothing is copied, so one more thing costs nothing."""

    __slots__ = ("_kind", "_left_out", "_overlays", "over", "plan")

    def __init__(
        self, kind: str, plan: dict[Key, Resource], overlays: Overlays, left_out: Mapping[Name, Refused]
    ) -> None:
        self.plan = plan
        self.over: dict[Key, Resource] = {}
        """What stands in the place of the plan's."""
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
        """What an overlay adds under a key."""
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
        # One step for each, where a Mapping's own view would look every key up again.
        over = self.over
        plan = ((key, over.get(key, one)) for key, one in self.plan.items()) if over else self.plan.items()
        return chain(plan, self._added())  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Composed(Desired):
    """Everything that is wanted by one plan. What overlays add is shared with `Wanted`, and follows it."""

    plan: HostPlan = field(default_factory=lambda: HostPlan(host=""))
    digest: str = ""
    moved: dict[Name, Resource] = field(default_factory=dict)
    """What takeovers and groups put in the place of the plan's."""
    claims: dict[str, dict[Hashable, Key]] = field(default_factory=dict)
    """By kind: what only one may have, and who has it."""
    left_out: dict[Name, Refused] = field(default_factory=dict)
    """What overlays add and this plan has no room for."""
    unamended: dict[tuple[str, Name], Refused] = field(default_factory=dict)
    """The same of amendments, by owner."""

    @property
    def runtime(self) -> Runtime:
        """What the plan says to the agent itself."""
        return self.plan.runtime

    def layers(self, kind: str) -> Layers:
        found = self.by_kind[kind]
        assert isinstance(found, Layers)
        return found

    def get(self, name: Name) -> Resource | None:
        return self.kind(name[0]).get(name[1])

    def of_plan(self, kind: str) -> Iterator[tuple[Key, Resource]]:
        """What the plan itself has of a kind, as it is wanted now."""
        of_kind = self.by_kind.get(kind)
        if isinstance(of_kind, Layers):
            yield from ((key, of_kind.over.get(key, one)) for key, one in of_kind.plan.items())

    def names_in_plan(self, name: Name) -> bool:
        """Whether the plan itself has it."""
        return name[0] in self.by_kind and name[1] in self.layers(name[0]).plan

    def rank(self, name: Name, overlays: Overlays) -> int:
        """Whose it is: 0 for the plan, then the owners by age."""
        if self.names_in_plan(name):
            return 0
        return next((n for n, one in enumerate(overlays.values(), 1) if one.get(name) is not None), 0)


NOTHING = Composed({})
"""Not even overlays."""


def compose(
    plan: HostPlan, digest: str, overlays: Overlays, kinds: Kinds, alive: frozenset[str], sessions: frozenset[Key]
) -> Composed:
    """What is wanted by a plan: while these tunnels are alive, and these peers of new keys have sessions."""
    base: dict[str, dict[Key, Resource]] = {kind: {} for kind in kinds}
    for resource in plan.resources:
        base[resource.kind][resource.key] = resource
    left_out: dict[Name, Refused] = {}
    claims: dict[str, dict[Hashable, Key]] = {kind: {} for kind in kinds}
    layers = {kind: Layers(kind, base[kind], overlays, left_out) for kind in kinds}
    clashes = tuple(_claim_all(kinds, base, claims))
    composed = Composed(layers, clashes, plan, digest, moved(plan, layers, alive, sessions), claims, left_out)
    for name, one in composed.moved.items():
        layers[name[0]].over[name[1]] = one
    for overlay in overlays.values():
        for amend in overlay.amends.values():
            if (refused := amend_one(composed, overlays, overlay, amend, kinds)) is not None:
                composed.unamended[overlay.owner, amend.name] = refused
        for name in overlay.names():
            if (refused := add_one(composed, overlay, name, kinds)) is not None:
                left_out[name] = refused
    return composed


def moved(
    plan: HostPlan, layers: Mapping[str, Layers], alive: frozenset[str], sessions: frozenset[Key]
) -> dict[Name, Resource]:
    """What takeovers and groups put in the place of the plan's resources."""
    if not (plan.runtime.takeovers or plan.runtime.watches):
        return {}
    found = takeover.moved(plan.runtime, sessions)
    nexthops = {**layers["nexthop"].plan, **{key: one for (kind, key), one in found.items() if kind == "nexthop"}}
    found |= groups.moved(plan.runtime, nexthops, alive)
    return {name: one for name, one in found.items() if name[1] in layers[name[0]].plan}


def _claim_all(
    kinds: Kinds, base: Mapping[str, ByKey], claims: Mapping[str, dict[Hashable, Key]]
) -> Iterator[Conflict]:
    """Give everything of the plan what it claims; what two of them claim is a fault of the plan."""
    for kind, of_kind in base.items():
        held, of = claims[kind], kinds[kind].claims
        for key, resource in of_kind.items():
            for claim in of(resource):
                holder = held.setdefault(claim, key)
                if holder is not key:
                    text = f"{claim_text(claim)} is also claimed by {of_kind[holder].label}"
                    yield Conflict(resource, text, "")


def final(composed: Composed, overlays: Overlays, name: Name) -> Resource | None:
    """One of the plan's resources with all that stands in its place and amends it; None where the plan has none."""
    found = composed.moved.get(name) or composed.layers(name[0]).plan.get(name[1])
    if found is None:
        return None
    for owner, overlay in overlays.items():
        amend = overlay.amends.get(name)
        if amend is not None and (owner, name) not in composed.unamended:
            found = found.amended(amend.gain, amend.lose)
    return found


def amend_one(composed: Composed, overlays: Overlays, overlay: Overlay, amend: Amend, kinds: Kinds) -> Refused | None:
    """Put an amendment in force, or say why not. One of what the plan does not have waits for it."""
    kind, key = name = amend.name
    before = composed.get(name) if composed.names_in_plan(name) else None
    if before is None:
        return None
    held, of = composed.claims[kind], kinds[kind].claims
    after = before.amended(amend.gain, amend.lose)
    for claim in of(after):
        holder = held.get(claim, key)
        if holder != key:
            return _refused(overlay, name, claim, composed.get((kind, holder)))
    release(composed, name, before, kinds)
    held.update(dict.fromkeys(of(after), key))
    composed.layers(kind).over[key] = after
    return None


def add_one(composed: Composed, overlay: Overlay, name: Name, kinds: Kinds) -> Refused | None:
    """Make room for what an overlay adds, or say why there is none."""
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


def release(composed: Composed, name: Name, resource: Resource, kinds: Kinds) -> None:
    """Give back what a resource claims."""
    held = composed.claims[name[0]]
    for claim in kinds[name[0]].claims(resource):
        if held.get(claim) == name[1]:
            del held[claim]


def _refused(overlay: Overlay, name: Name, claim: Hashable, holder: Resource | None) -> Refused:
    whose = holder.label if holder is not None else "something else"
    return Refused(overlay.owner, *name, f"{claim_text(claim)} belongs to {name[0]} {whose}")
