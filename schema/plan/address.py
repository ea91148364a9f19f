"""Addresses on interfaces."""

from __future__ import annotations

from typing import ClassVar, Literal

from schema.plan.base import Disruption, KernelIfName, Key, PrefixText, Resource


class Address(Resource):
    """An address with its prefix length on an interface. If the kernel supports it, its address protocol is 117."""

    rank: ClassVar[int] = 40

    kind: Literal["address"] = "address"
    dev: KernelIfName
    address: PrefixText

    @property
    def key(self) -> Key:
        return (self.dev, self.address)

    def describe(self) -> str:
        return f"{self.address} dev {self.dev}"

    @classmethod
    def disruption(cls, before: Address | None, after: Address | None) -> Disruption:
        return Disruption.RESETS if after is None else Disruption.NONE
