"""Nexthop objects and nexthop groups (ip-nexthop(8)). Routes refer to them by number."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from schema.plan.base import AddressText, Disruption, Family, KernelIfName, Key, Model, Resource


class Member(Model):
    """A nexthop in a group, with its weight: its share of the flows."""

    id: int = Field(ge=1, lt=2**32)
    weight: int = Field(default=1, ge=1, le=256)


class Resilient(Model):
    """A resilient group divides flows into buckets. If a member leaves, only its own flows move
    (Documentation/networking/nexthop-group-resilient.rst). The kernel never changes the number of buckets of a
    group."""

    buckets: int = Field(ge=1, lt=65536)
    idle_timer: int = Field(ge=0)
    """After this number of seconds an idle bucket may move to a member that has too few."""
    unbalanced_timer: int = Field(ge=0)
    """After this number of seconds busy buckets may move, too. 0 means never."""


class Nexthop(Resource):
    """Either a single nexthop (`dev`, and `via` on a shared segment) or a group that spreads flows over others."""

    rank: ClassVar[int] = 60

    kind: Literal["nexthop"] = "nexthop"
    id: int = Field(ge=1, lt=2**32)
    family: Family | None = None
    """Set for a single nexthop. A group has the family of its members."""
    dev: KernelIfName | None = None
    via: AddressText | None = None
    group: tuple[Member, ...] = ()
    resilient: Resilient | None = None
    """Only for a group. Without it, any change of members may move any flow."""

    @model_validator(mode="after")
    def _one_form(self) -> Nexthop:
        if bool(self.group) == (self.dev is not None):
            raise ValueError("a nexthop is either a group or has a dev")
        if self.resilient and not self.group:
            raise ValueError("only a group is resilient")
        return self

    @property
    def key(self) -> Key:
        # Groups sort after the nexthops that they refer to, and are therefore created after them.
        return (1 if self.group else 0, self.id)

    @property
    def label(self) -> str:
        return f"id {self.id}"

    def describe(self) -> str:
        if self.group:
            members = "/".join(str(m.id) if m.weight == 1 else f"{m.id},{m.weight}" for m in self.group)
            return f"id {self.id} group {members}" + _words(self.resilient)
        via = f" via {self.via}" if self.via else ""
        return f"id {self.id}{via} dev {self.dev}"

    def amended(self, gain: tuple[Member, ...], lose: tuple[Member, ...]) -> Nexthop:
        """With members added and removed. A group keeps its last member, because the kernel has no empty groups."""
        gone, new = {member.id for member in lose}, {member.id for member in gain}
        left = (*(member for member in self.group if member.id not in gone | new), *gain)
        return self.model_copy(update={"group": left}) if self.group and left else self

    @classmethod
    def disruption(cls, before: Nexthop | None, after: Nexthop | None) -> Disruption:
        if before and after and before.group != after.group:
            return Disruption.REORDERS
        return Disruption.NONE

    @classmethod
    def cost(cls, before: Nexthop | None, after: Nexthop | None) -> str:
        text = cls.disruption(before, after).text
        if (
            before is None
            or after is None
            or before.group == after.group
            or not before.resilient
            or not after.resilient
        ):
            return text
        return f"reorders {_moved(before.group, after.group).limit_denominator(100)} of its flows"


def _moved(before: tuple[Member, ...], after: tuple[Member, ...]) -> Fraction:
    """The share of a resilient group's flows that move. Each member loses only what it has above its new share."""
    old, new = _shares(before), _shares(after)
    return sum((max(Fraction(0), share - new.get(member, Fraction(0))) for member, share in old.items()), Fraction(0))


def _shares(group: tuple[Member, ...]) -> dict[int, Fraction]:
    total = sum(member.weight for member in group)
    return {member.id: Fraction(member.weight, total) for member in group}


def _words(resilient: Resilient | None) -> str:
    """The options of a resilient group in the form of ip-nexthop(8)."""
    if resilient is None:
        return ""
    return (
        f" type resilient buckets {resilient.buckets} idle_timer {resilient.idle_timer}"
        f" unbalanced_timer {resilient.unbalanced_timer}"
    )
