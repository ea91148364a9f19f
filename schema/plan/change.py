"""The difference between two sets of resources. The plan diff and the agent both use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schema.plan.base import Disruption, Resource, SecretRef
from schema.plan.link import BondOptions
from schema.plan.nexthop import Member


@dataclass(frozen=True, slots=True)
class Change:
    """One step. Without `before` it creates, without `after` it deletes, with both it changes a resource of one key."""

    before: Resource | None
    after: Resource | None

    @property
    def resource(self) -> Resource:
        """The resource after the change; before it if the change deletes the resource."""
        found = self.after if self.after is not None else self.before
        assert found is not None
        return found

    @property
    def verb(self) -> Literal["create", "change", "delete"]:
        if self.before is None:
            return "create"
        return "delete" if self.after is None else "change"

    @property
    def disruption(self) -> Disruption:
        return type(self.resource).disruption(self.before, self.after)

    @property
    def cost(self) -> str:
        """The disruption in words, for people."""
        return type(self.resource).cost(self.before, self.after)

    def describe(self) -> str:
        """`+`, `~` or `-`, the kind, and the resource, in one line."""
        sign = {"create": "+", "change": "~", "delete": "-"}[self.verb]
        return f"{sign} {self.resource.kind:<9}  {self._text()}"

    def _text(self) -> str:
        before, after = self.before, self.after
        if before is None or after is None or before == after:
            return self.resource.describe()
        fields = (name for name in type(after).model_fields if getattr(before, name) != getattr(after, name))
        return f"{after.label}: {'; '.join(_field(name, before, after) for name in fields)}"


SHOWN = 4
"""The maximum number of list entries in a line."""


def _field(name: str, before: Resource, after: Resource) -> str:
    """The change of one field: `old -> new`, or the entries that a list gains and loses."""
    old, new = getattr(before, name), getattr(after, name)
    word = name.replace("_", "-")
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        old, new = (tuple(line.strip() for line in text.splitlines()) for text in (old, new))
    if not isinstance(new, tuple):
        return f"{word} {_value(old)} -> {_value(new)}"
    gained, lost = [x for x in new if x not in old], [x for x in old if x not in new]
    if not gained and not lost:
        return f"{word} in another order"
    items = [f"+{_value(x)}" for x in gained] + [f"-{_value(x)}" for x in lost]
    more = f" … ({len(items)})" if len(items) > SHOWN else ""
    return f"{word} {' '.join(items[:SHOWN])}{more}"


def _value(value: object) -> str:
    if isinstance(value, SecretRef):
        return f"{value.fingerprint[:8]}…"
    if isinstance(value, Member):
        return str(value.id) if value.weight == 1 else f"{value.id},{value.weight}"
    if isinstance(value, BondOptions):
        return value.describe()
    return "none" if value is None or value == "" else str(value)


def diff(before: Iterable[Resource], after: Iterable[Resource]) -> list[Change]:
    """The changes from one set of resources to the other, sorted by kind and key; empty if both are equal."""
    old = {(r.rank, r.kind, r.key): r for r in before}
    new = {(r.rank, r.kind, r.key): r for r in after}
    names = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    return [Change(old.get(name), new.get(name)) for name in sorted(names)]
