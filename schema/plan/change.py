"""The difference between two sets of resources: used by the plan diff and by the agent alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schema.plan.base import Disruption, Resource


@dataclass(frozen=True, slots=True)
class Change:
    """One step: no `before` creates, no `after` deletes, both change what has the same kind and key."""

    before: Resource | None
    after: Resource | None

    @property
    def resource(self) -> Resource:
        """The side that is there, the later one where both are."""
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

    def describe(self) -> str:
        """`+`, `~` or `-`, the kind, and the resource in one line."""
        sign = {"create": "+", "change": "~", "delete": "-"}[self.verb]
        return f"{sign} {self.resource.kind:<9}  {self.resource.describe()}"


def diff(before: Iterable[Resource], after: Iterable[Resource]) -> list[Change]:
    """What turns one set of resources into another, sorted by kind and key, nothing where both are equal."""
    old = {(r.rank, r.kind, r.key): r for r in before}
    new = {(r.rank, r.kind, r.key): r for r in after}
    names = [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    return [Change(old.get(name), new.get(name)) for name in sorted(names)]
