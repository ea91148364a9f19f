"""Addresses: ours by address protocol (IFA_PROTO, kernel 5.18 and later)."""

from __future__ import annotations

from reconciler.kinds.base import Kind
from schema.plan import PROTOCOL

KIND = Kind(
    name="address",
    marker=PROTOCOL,
    stands_on=frozenset({"link", "sysctl"}),
    announced_by="rtnetlink",
    messages=(20, 21),
)
