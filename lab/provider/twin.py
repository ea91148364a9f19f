"""Common parts of the simulated providers: calls and replies, faults, and changes of their gateways. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lab.provider.places import Gate

FAULTS = {
    # for any service
    "silence": "takes connections and says nothing",
    "http-500": "answers with HTTP 500",
    "huge": "answers with a gigabyte",
    "garbage": "answers with bytes that mean nothing",
    "other-name": "shows the certificate of another name",
    "not-yet-valid": "shows a certificate that begins tomorrow",
    # for one kind of request
    "list-signature": "signs the list with another key",
    "tokens-expire": "takes no token, not even a new one",
    "refuse-key": "takes no keys",
    "port-busy": "says that the port is busy",
    "device-limit": "the account has all devices that it may have",
    # for a gateway's tunnel
    "portal": "answers all HTTP through the tunnel with a portal's page",
}
"""Fault -> what the server then does."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request."""

    at: str
    """The server that got the request: a gate's name, `pia-api` or `mullvad-api`."""
    method: str
    path: str
    client: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """The names are in lower case."""
    body: bytes = b""

    def json(self) -> dict[str, object]:
        """The JSON object in the body; empty if there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def reply(value: object, status: int = 200, **headers: str) -> HttpReply:
    return HttpReply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


class Tunnels(Protocol):
    """The operations on the gates' WireGuard devices."""

    def add(self, gate: Gate, public_key: str, addresses: Sequence[str]) -> None:
        """Add a customer with these addresses in the tunnel."""
        ...

    def remove(self, gate: Gate, public_key: str) -> None: ...

    def lead(self, gate: Gate, port: int, address: str) -> None:
        """Forward packets from outside to a port of the gate to a customer."""
        ...


class Faults:
    """The faults that are switched on, by server."""

    def __init__(self) -> None:
        self._on: dict[str, str] = {}

    def set(self, at: str, fault: str) -> None:
        """Switch a fault on; an empty fault ends the current one. Raises ValueError for an unknown server or fault."""
        if fault and fault not in FAULTS:
            raise ValueError(f"there is no fault {fault!r}: {', '.join(sorted(FAULTS))}")
        self._on[at] = fault

    def at(self, at: str) -> str:
        return self._on.get(at, "")
