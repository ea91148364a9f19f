"""Policy routing rules (ip-rule(8))."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schema.plan.base import Family, KernelIfName, Key, PrefixText, Resource


class Rule(Resource):
    """A rule with protocol 117. Every field is part of its key, so a rule never changes."""

    rank: ClassVar[int] = 80

    kind: Literal["rule"] = "rule"
    family: Family
    priority: int = Field(ge=1, lt=32766)
    table: int = Field(ge=1, lt=2**32)
    src: PrefixText | None = None
    dst: PrefixText | None = None
    iif: KernelIfName | None = None
    oif: KernelIfName | None = None
    fwmark: int | None = None
    fwmask: int | None = None
    invert: bool = False
    suppress_prefixlength: int | None = None

    @property
    def key(self) -> Key:
        fields = (self.src, self.dst, self.iif, self.oif, self.fwmark, self.fwmask, self.suppress_prefixlength)
        words = ("" if field is None else str(field) for field in fields)
        return (self.family, self.priority, self.table, int(self.invert), *words)

    def describe(self) -> str:
        words = [f"{self.priority}:", "not"] if self.invert else [f"{self.priority}:"]
        words += ["from", self.src or "all"]
        for name, value in (("to", self.dst), ("iif", self.iif), ("oif", self.oif)):
            if value is not None:
                words += [name, value]
        if self.fwmark is not None:
            mask = "" if self.fwmask is None else f"/{self.fwmask:#x}"
            words += ["fwmark", f"{self.fwmark:#x}{mask}"]
        words += ["lookup", str(self.table)]
        if self.suppress_prefixlength is not None:
            words += ["suppress_prefixlength", str(self.suppress_prefixlength)]
        return " ".join(words)
