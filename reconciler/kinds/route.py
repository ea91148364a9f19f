"""Routes: ours by their protocol."""

from __future__ import annotations

from reconciler.kinds.base import Kind, owned_by_protocol

KIND = Kind("route", owned_by_protocol)
