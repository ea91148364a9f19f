"""Routes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schema.plan.base import AddressText, Disruption, KernelIfName, Key, PrefixText, Resource
from schema.plan.ranges import METRIC

MAIN_TABLE = 254


class Route(Resource):
    """A route with protocol 117. It uses `dev` (and `via`), or the nexthop object `nhid`."""

    rank: ClassVar[int] = 70

    kind: Literal["route"] = "route"
    table: int = Field(default=MAIN_TABLE, ge=1, lt=2**32)
    dst: PrefixText
    metric: int = Field(default=METRIC, ge=1, lt=2**32)
    type: Literal["unicast", "blackhole", "unreachable"] = "unicast"
    dev: KernelIfName | None = None
    via: AddressText | None = None
    nhid: int | None = None
    src: AddressText | None = None

    @property
    def key(self) -> Key:
        return (self.table, self.dst, self.metric)

    @property
    def label(self) -> str:
        table = "" if self.table == MAIN_TABLE else f" table {self.table}"
        return f"{self.dst}{table} metric {self.metric}"

    def describe(self) -> str:
        words = [self.dst] if self.type == "unicast" else [self.type, self.dst]
        for name in ("via", "dev", "nhid", "src"):
            value = getattr(self, name)
            if value is not None:
                words += [name, str(value)]
        if self.table != MAIN_TABLE:
            words += ["table", str(self.table)]
        return " ".join([*words, "metric", str(self.metric)])

    @classmethod
    def disruption(cls, before: Route | None, after: Route | None) -> Disruption:
        return Disruption.RESETS if after is None else Disruption.NONE
