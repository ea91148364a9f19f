"""Policy routing rules over rtnetlink (linux/fib_rules.h)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from reconciler.kinds.base import Failure, Observed
from reconciler.system.failure import send
from reconciler.system.ip import FAMILIES, NAMES, pack_prefix, unpack
from reconciler.system.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    U8,
    U32,
    Message,
    Netlink,
    attribute,
    attribute_text,
    attribute_u32,
    attributes,
    text_of,
)
from schema.plan import PROTOCOL, Change, Rule

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN = 1, 2, 3, 6, 10, 14
FRA_TABLE, FRA_FWMASK, FRA_OIFNAME, FRA_PROTOCOL = 15, 16, 17, 21
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 0x2
NONE = 0xFFFFFFFF

FIBRULE = Struct("=BBBBBxxBI")
"""struct fib_rule_hdr: family, dst_len, src_len, tos, table, action, flags."""


def encode(rule: Rule) -> bytes:
    """The body that creates or deletes a rule of ours."""
    parts = [attribute_u32(FRA_PRIORITY, rule.priority), attribute_u32(FRA_TABLE, rule.table)]
    parts.append(attribute(FRA_PROTOCOL, U8.pack(PROTOCOL)))
    lengths = []
    for prefix, kind in ((rule.dst, FRA_DST), (rule.src, FRA_SRC)):
        length = 0
        if prefix is not None:
            _, address, length = pack_prefix(prefix)
            parts.append(attribute(kind, address))
        lengths.append(length)
    for name, kind in ((rule.iif, FRA_IIFNAME), (rule.oif, FRA_OIFNAME)):
        if name is not None:
            parts.append(attribute_text(kind, name))
    numbers = (rule.fwmark, FRA_FWMARK), (rule.fwmask, FRA_FWMASK), (rule.suppress_prefixlength, FRA_SUPPRESS_PREFIXLEN)
    parts += [attribute_u32(kind, value) for value, kind in numbers if value is not None]
    table = rule.table if rule.table < 256 else 0
    flags = FIB_RULE_INVERT if rule.invert else 0
    header = FIBRULE.pack(FAMILIES[rule.family], lengths[0], lengths[1], 0, table, FR_ACT_TO_TBL, flags)
    return header + b"".join(parts)


def decode(body: bytes) -> Observed[Rule] | None:
    """A rule from its RTM_NEWRULE body; None for rules without a table, and for other families."""
    family, dst_len, src_len, _, table, action, flags = FIBRULE.unpack_from(body)
    found = attributes(body, FIBRULE.size)
    if action != FR_ACT_TO_TBL or family not in NAMES:
        return None

    def number(kind: int) -> int | None:
        payload = found.get(kind)
        return U32.unpack(payload)[0] if payload else None

    def text(kind: int) -> str | None:
        return text_of(found[kind]) if kind in found else None

    fwmark, fwmask, suppress = number(FRA_FWMARK), number(FRA_FWMASK), number(FRA_SUPPRESS_PREFIXLEN)
    rule = Rule.model_construct(
        None,
        kind="rule",
        family=NAMES[family],
        priority=number(FRA_PRIORITY) or 0,
        table=number(FRA_TABLE) or table,
        src=f"{unpack(found[FRA_SRC])}/{src_len}" if FRA_SRC in found else None,
        dst=f"{unpack(found[FRA_DST])}/{dst_len}" if FRA_DST in found else None,
        iif=text(FRA_IIFNAME),
        oif=text(FRA_OIFNAME),
        # The kernel reports a full mask if none was given, and omits mark 0.
        fwmark=0 if fwmark is None and fwmask is not None else fwmark,
        fwmask=None if fwmask == NONE else fwmask,
        invert=bool(flags & FIB_RULE_INVERT),
        suppress_prefixlength=None if suppress == NONE else suppress,
    )
    marker = found.get(FRA_PROTOCOL)
    return Observed(rule, marker[0] if marker else None)


class RuleDriver:
    """Rules of both families."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def observe(self) -> list[Observed[Rule]]:
        bodies: list[bytes] = []
        for family in FAMILIES.values():
            bodies += self._netlink.dump(RTM_GETRULE, FIBRULE.pack(family, 0, 0, 0, 0, 0, 0))
        return [rule for rule in map(decode, bodies) if rule is not None]

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        """A change of a rule can only concern its marker: ours is created beside the foreign one."""
        ours = {o.resource for o in self.observe() if o.marker == PROTOCOL}

        def pack_one(change: Change) -> Message | None:
            rule = change.resource
            assert isinstance(rule, Rule)
            if (change.after is None) != (rule in ours):
                return None  # already as wanted; a deletion by fields could delete a foreign rule
            if change.after is None:
                ours.discard(rule)
                return RTM_DELRULE, 0, encode(rule)
            ours.add(rule)
            return RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, encode(rule)

        return send(self._netlink, changes, pack_one)[0]
