"""Nexthop objects and groups of them (ip-nexthop(8)); routes point at them by number."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from schema.plan.base import Address, Disruption, Family, IfName, Key, Model, Resource


class Member(Model):
    """One nexthop in a group, with the share of flows it gets."""

    id: int = Field(ge=1, lt=2**32)
    weight: int = Field(default=1, ge=1, le=256)


class Nexthop(Resource):
    """Either a way out (`dev`, and `via` on a shared segment) or a group that spreads flows over others."""

    rank: ClassVar[int] = 60

    kind: Literal["nexthop"] = "nexthop"
    id: int = Field(ge=1, lt=2**32)
    family: Family | None = None
    """Set for a way out; a group has the family of its members."""
    dev: IfName | None = None
    via: Address | None = None
    group: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _one_form(self) -> Nexthop:
        if bool(self.group) == (self.dev is not None):
            raise ValueError("a nexthop is either a group or has a dev")
        return self

    @property
    def key(self) -> Key:
        # Groups sort, and so are created, after the ways out that they name.
        return (1 if self.group else 0, self.id)

    @property
    def label(self) -> str:
        return f"id {self.id}"

    def describe(self) -> str:
        if self.group:
            return f"id {self.id} group " + "/".join(
                str(m.id) if m.weight == 1 else f"{m.id},{m.weight}" for m in self.group
            )
        via = f" via {self.via}" if self.via else ""
        return f"id {self.id}{via} dev {self.dev}"

    @classmethod
    def disruption(cls, before: Nexthop | None, after: Nexthop | None) -> Disruption:
        if before and after and before.group != after.group:
            return Disruption.REORDERS
        return Disruption.NONE
