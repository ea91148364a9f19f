"""Addresses: ours by address protocol (IFA_PROTO, kernel 5.18 and later)."""

from __future__ import annotations

from reconciler.kinds.base import Kind, owned_by_protocol

KIND = Kind("address", owned_by_protocol)
