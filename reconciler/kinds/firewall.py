"""Firewall chains: ours by name; whoever names a chain GITWAN-… has asked for it."""

from __future__ import annotations

from reconciler.kinds.base import Kind

PREFIX = "GITWAN-"

KIND = Kind(name="firewall", marker=PREFIX, stands_on=frozenset(), announced_by="nftables")
