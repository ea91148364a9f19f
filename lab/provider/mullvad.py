"""A service that speaks Mullvad's protocol: a list of relays, and devices of an account that all relays know. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from lab.provider.places import Gate
from lab.provider.twin import Call, Faults, HttpReply, Tunnels, reply

ACCOUNT = "0000111122223333"
DNS, DNS6 = "10.64.0.1", "fc00:bbbb:bbbb:bb01::1"
MOST_DEVICES = 5
TOKEN_LIFE = 86_400.0
DEVICES = "/accounts/v1/devices"


def document(gates: list[Gate], keys: dict[str, str]) -> dict[str, object]:
    """The list in version 2. `keys`: server -> public key."""
    places = {
        gate.region: {"city": gate.title, "country": gate.country, "latitude": 0.0, "longitude": 0.0} for gate in gates
    }
    relays = [
        {
            "hostname": gate.server, "location": gate.region, "active": True, "owned": True, "provider": "lab",
            "ipv4_addr_in": gate.address, "ipv6_addr_in": gate.address6, "weight": 100, "include_in_country": True,
            "public_key": keys[gate.server], "daita": False, "features": {},
        }
        for gate in gates
    ]  # fmt: skip
    ranges = {"port_ranges": [[53, 53], [51820, 51820]], "shadowsocks_port_ranges": []}
    return {
        "locations": places,
        "wireguard": {**ranges, "ipv4_gateway": DNS, "ipv6_gateway": DNS6, "relays": relays},
    }


class MullvadTwin:
    """The state of the service: tokens and devices. `number` returns random bytes in hexadecimal."""

    def __init__(
        self, gates: list[Gate], keys: dict[str, str], tunnels: Tunnels, faults: Faults, number: Callable[[], str]
    ) -> None:
        self._gates, self._tunnels, self._faults, self._number = gates, tunnels, faults, number
        self._list = json.dumps(document(gates, keys)).encode()
        self._tag = f'"{sha256(self._list).hexdigest()[:16]}"'
        self._tokens: dict[str, float] = {}
        self._devices: dict[str, dict[str, Any]] = {}
        self._count = 1

    def answer(self, call: Call, now: float) -> HttpReply:
        """The reply to a call. `now` is in seconds since the epoch."""
        if (call.method, call.path) == ("GET", "/public/relays/wireguard/v2/"):
            if call.headers.get("if-none-match") == self._tag:
                return HttpReply(304, headers={"ETag": self._tag})
            return HttpReply(200, self._list, {"Content-Type": "application/json", "ETag": self._tag})
        if (call.method, call.path) == ("POST", "/auth/v1/token"):
            return self._token(call, now)
        if not call.path.startswith(DEVICES):
            return reply({"code": "NOT_FOUND"}, 404)
        token = call.headers.get("authorization", "").removeprefix("Bearer ")
        if self._faults.at(call.at) == "tokens-expire" or now >= self._tokens.get(token, 0.0):
            return reply({"code": "INVALID_ACCESS_TOKEN", "detail": "The access token is not valid"}, 401)
        return self._device(call)

    def _token(self, call: Call, now: float) -> HttpReply:
        if call.json().get("account_number") != ACCOUNT:
            return reply({"code": "INVALID_ACCOUNT", "detail": "No such account"}, 400)
        token = f"mva_{self._number()}"
        self._tokens[token] = now + TOKEN_LIFE
        expiry = datetime.fromtimestamp(now + TOKEN_LIFE, UTC).isoformat()
        return reply({"access_token": token, "expiry": expiry})

    def forget_tokens(self) -> None:
        """Make all tokens expire, as after a day."""
        self._tokens.clear()

    def _device(self, call: Call) -> HttpReply:
        name = call.path.removeprefix(DEVICES).removeprefix("/")
        if not name:
            return reply(list(self._devices.values())) if call.method == "GET" else self._new(call)
        if name not in self._devices:
            return reply({"code": "DEVICE_NOT_FOUND", "detail": "No such device"}, 404)
        if call.method == "GET":
            return reply(self._devices[name])
        gone = self._devices.pop(name)
        for gate in self._gates:
            self._tunnels.remove(gate, gone["pubkey"])
        return HttpReply(204)

    def _new(self, call: Call) -> HttpReply:
        key = str(call.json().get("pubkey", ""))
        if any(device["pubkey"] == key for device in self._devices.values()):
            return reply({"code": "PUBKEY_IN_USE", "detail": "The key is in use"}, 400)
        if len(self._devices) >= MOST_DEVICES or self._faults.at(call.at) == "device-limit":
            return reply({"code": "MAX_DEVICES_REACHED", "detail": "Too many devices"}, 400)
        self._count += 1
        addresses = [f"10.66.0.{self._count}/32", f"fc00:bbbb:bbbb:bb01::{self._count:x}/128"]
        device: dict[str, Any] = {
            "id": self._number()[:12], "name": f"device {self._count}", "pubkey": key, "hijack_dns": False,
            "ipv4_address": addresses[0], "ipv6_address": addresses[1],
        }  # fmt: skip
        self._devices[device["id"]] = device
        for gate in self._gates:
            self._tunnels.add(gate, key, addresses)
        return reply(device, 201)
