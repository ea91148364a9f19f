"""The firewall: chains of our own, each reached by one jump from a built-in chain."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from schema.plan.base import Disruption, Family, Key, Resource


class Firewall(Resource):
    """One chain of ours in one table of one family, and the built-in chain that jumps to it.

    Each rule is what follows `-A CHAIN ` in the words and order that iptables-save(8) prints, so that what is read
    back can be compared as text.
    """

    rank: ClassVar[int] = 0

    kind: Literal["firewall"] = "firewall"
    family: Family
    table: Literal["filter", "nat", "mangle", "raw"]
    chain: Annotated[str, StringConstraints(pattern=r"^GITWAN-[A-Z0-9-]{1,21}$")]
    hook: Literal["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]
    rules: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return (self.family, self.table, self.chain)

    @property
    def label(self) -> str:
        tool = "ip6tables" if self.family == "inet6" else "iptables"
        return f"{tool} -t {self.table} {self.hook} -> {self.chain}"

    def describe(self) -> str:
        return f"{self.label} ({len(self.rules)} rule{'' if len(self.rules) == 1 else 's'})"

    @classmethod
    def disruption(cls, before: Firewall | None, after: Firewall | None) -> Disruption:
        # Only new connections are ever refused, so rules may come and go under flows that are established.
        return Disruption.NONE
