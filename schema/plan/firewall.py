"""The firewall: gitwan's own chains. A jump from a built-in chain leads to each of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from schema.plan.base import Disruption, Family, Key, Resource


class Firewall(Resource):
    """One of gitwan's chains in one table of one family, and the built-in chain that jumps to it.

    Each rule is the text after `-A CHAIN `, exactly as iptables-save(8) prints it, so that it can be compared with what
    is read back.
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
        # The rules only ever refuse new connections, so they can change without any effect on established flows.
        return Disruption.NONE
