"""Firewall chains: ours by name; whoever names a chain GITWAN-… has asked for it."""

from __future__ import annotations

from reconciler.kinds.base import Kind, Observed
from schema.plan import Resource

PREFIX = "GITWAN-"


def owns(observed: Observed[Resource]) -> bool:
    return observed.marker == PREFIX


KIND = Kind("firewall", owns)
