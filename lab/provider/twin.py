"""What the twins have in common: calls and replies, faults, and what they want done at their gateways. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lab.provider.places import Gate

FAULTS = {
    # of any service
    "silence": "takes connections and says nothing",
    "http-500": "answers with HTTP 500",
    "huge": "answers with a gigabyte",
    "garbage": "answers with bytes that mean nothing",
    "other-name": "shows the certificate of another name",
    "not-yet-valid": "shows a certificate that begins tomorrow",
    # of one kind of question
    "list-signature": "signs the list with another key",
    "tokens-expire": "takes no token, not even a new one",
    "refuse-key": "takes no keys",
    "port-busy": "says that the port is busy",
    "device-limit": "the account has all devices that it may have",
    # of a gateway's tunnel
    "portal": "answers all HTTP through the tunnel with a portal's page",
}
"""What can be switched on at a server, and what it then does."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question."""

    at: str
    """The server that is asked: a gate's name, or `pia-api`, `mullvad-api`."""
    method: str
    path: str
    client: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    def json(self) -> dict[str, object]:
        """The body's object; empty where there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def reply(value: object, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


class Tunnels(Protocol):
    """The WireGuard devices of the gates."""

    def add(self, gate: Gate, public_key: str, addresses: Sequence[str]) -> None:
        """A customer, with these addresses within the tunnel."""
        ...

    def remove(self, gate: Gate, public_key: str) -> None: ...

    def lead(self, gate: Gate, port: int, address: str) -> None:
        """What comes to a port of the gate from outside goes to a customer."""
        ...


class Faults:
    """What is switched on, and where."""

    def __init__(self) -> None:
        self._on: dict[str, str] = {}

    def set(self, at: str, fault: str) -> None:
        """Raises ValueError. An empty fault ends the one that is on."""
        if fault and fault not in FAULTS:
            raise ValueError(f"there is no fault {fault!r}: {', '.join(sorted(FAULTS))}")
        self._on[at] = fault

    def at(self, at: str) -> str:
        return self._on.get(at, "")
