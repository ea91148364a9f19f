"""Firewall chains: ours by name, because the prefix GITWAN- is reserved for them."""

from __future__ import annotations

from reconciler.kinds.base import Kind

PREFIX = "GITWAN-"

KIND = Kind(name="firewall", marker=PREFIX, stands_on=frozenset(), announced_by="nftables")
