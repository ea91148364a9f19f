"""The twin itself: what the real servers do that surprises."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from lab.provider.pia import PASSWORD, USER, PiaTwin, document
from lab.provider.places import Gate, gates_of
from lab.provider.twin import Call, Faults

GATES = gates_of(["pia"])
KEYS = [b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
NOW = 1_800_000_000.0


@dataclass
class Tunnels:
    peers: dict[str, list[str]] = field(default_factory=dict)
    ports: dict[int, str] = field(default_factory=dict)

    def add(self, gate: Gate, public_key: str, addresses: Sequence[str]) -> None:
        self.peers.setdefault(gate.server, []).append(public_key)

    def remove(self, gate: Gate, public_key: str) -> None:
        self.peers[gate.server].remove(public_key)

    def lead(self, gate: Gate, port: int, address: str) -> None:
        self.ports[port] = address


@pytest.fixture
def tunnels() -> Tunnels:
    return Tunnels()


@pytest.fixture
def twin(tunnels: Tunnels) -> PiaTwin:
    numbers = count(1)
    keys = {gate.server: KEYS[0] for gate in GATES}
    return PiaTwin(GATES, {"good": b"good", "bad": b"bad"}, keys, tunnels, Faults(), lambda: f"{next(numbers):032x}")


def asked(twin: PiaTwin, at: str, method: str, path: str, now: float = NOW, **more: Any) -> Any:
    return json.loads(twin.answer(Call(at, method, path, "10.16.128.2", **more), now).body)


def token(twin: PiaTwin) -> str:
    body = f"username={USER}&password={PASSWORD}".encode()
    return str(asked(twin, "pia-api", "POST", "/api/client/v2/token", body=body)["token"])


def test_a_token_lives_for_a_day(twin: PiaTwin) -> None:
    query = {"pt": token(twin), "pubkey": KEYS[0]}
    assert asked(twin, "london401", "GET", "/addKey", NOW + 86_399, query=query)["status"] == "OK"
    assert asked(twin, "london401", "GET", "/addKey", NOW + 86_400, query=query)["message"] == "Login failed!"


def test_an_account_has_one_key_at_each_server(twin: PiaTwin, tunnels: Tunnels) -> None:
    for at, key in (("london401", KEYS[0]), ("tokyo401", KEYS[0]), ("london401", KEYS[1])):
        asked(twin, at, "GET", "/addKey", query={"pt": token(twin), "pubkey": key})
    assert tunnels.peers == {"london401": [KEYS[1]], "tokyo401": [KEYS[0]]}


def test_a_port_needs_the_payload_that_was_signed(twin: PiaTwin, tunnels: Tunnels) -> None:
    grant = asked(twin, "london401", "GET", "/getSignature", query={"token": token(twin)})
    query = {"payload": grant["payload"], "signature": grant["signature"]}
    assert asked(twin, "london401", "GET", "/bindPort", query=query)["status"] == "OK"
    assert list(tunnels.ports.values()) == ["10.16.128.2"]
    forged = {**query, "payload": b64encode(b'{"port": 22}').decode()}
    assert asked(twin, "london401", "GET", "/bindPort", query=forged)["status"] == "ERROR"


def test_the_lists_of_both_kinds_of_servers_differ_as_the_real_ones_do() -> None:
    for region in document(GATES)["regions"]:  # type: ignore[attr-defined]
        names = {kind: {server["cn"] for server in servers} for kind, servers in region["servers"].items()}
        assert not names["wg"] & names["meta"]
