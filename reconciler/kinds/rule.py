"""Policy routing rules: ours by protocol."""

from __future__ import annotations

from reconciler.kinds.base import Kind
from schema.plan import PROTOCOL

KIND = Kind(name="rule", marker=PROTOCOL, stands_on=frozenset(), announced_by="rtnetlink", messages=(32, 33))
