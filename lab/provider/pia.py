"""A service that speaks PIA's protocol, with its limits: one key for each account and server. Pure.

As at PIA, a new key silently replaces the old one.
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import parse_qs

from lab.provider.places import Gate
from lab.provider.twin import Call, Faults, HttpReply, Tunnels, reply

USER, PASSWORD = "p0000001", "lab-password"
ACCOUNT = f"{USER}:{PASSWORD}"
DEDICATED = "DIP0000000000lab"
"""The token of the dedicated IP, which is the second server of the first region."""
TOKEN_LIFE, PORT_LIFE = 24 * 3600.0, 62 * 86_400.0
DNS = "10.0.0.243"
FIRST_PORT = 40_000
UNKNOWN = {"status": "ERROR", "message": "Login failed!"}


def vip(gate: Gate) -> str:
    """The gate's own address in its tunnel."""
    return f"10.{16 + gate.number}.128.1"


def document(gates: list[Gate]) -> dict[str, object]:
    """The list. The first server of each region is also a `meta` server, under another name."""
    regions = []
    for region in dict.fromkeys(gate.region for gate in gates):
        own = [gate for gate in gates if gate.region == region]
        regions.append(
            {
                "id": region,
                "name": own[0].title,
                "country": own[0].country,
                "auto_region": True,
                "dns": f"{region.replace('_', '-')}.privacy.network",
                "port_forward": own[0].forwards,
                "geo": False,
                "offline": False,
                "servers": {
                    "meta": [{"ip": own[0].address, "cn": meta_name(own[0])}],
                    "wg": [{"ip": gate.address, "cn": gate.server} for gate in own],
                },
            }
        )
    groups = {"wg": [{"name": "wireguard", "ports": [1337]}], "meta": [{"name": "meta", "ports": [443, 8080]}]}
    return {"groups": groups, "regions": regions}


def meta_name(gate: Gate) -> str:
    return f"meta-{gate.server}"


class PiaTwin:
    """The state of the service: accounts, tokens, keys and ports. `number` returns random bytes in hexadecimal."""

    def __init__(
        self, gates: list[Gate], lists: dict[str, bytes], keys: dict[str, str], tunnels: Tunnels, faults: Faults,
        number: Callable[[], str],
    ) -> None:  # fmt: skip
        """`lists`: `good` and `bad` -> the signed list. `keys`: server -> public key."""
        self._gates = {gate.server: gate for gate in gates}
        self._lists, self._keys, self._tunnels, self._faults, self._number = lists, keys, tunnels, faults, number
        self._secret = number().encode()
        self._tokens: dict[str, float] = {}
        self._customers: dict[tuple[str, str], str] = {}
        self._count: dict[str, int] = {}
        self._ports = 0

    def answer(self, call: Call, now: float) -> HttpReply:
        """The reply to a call. `now` is in seconds since the epoch."""
        match call.method, call.path:
            case "GET", "/vpninfo/servers/v6":
                return HttpReply(200, self._lists["bad" if self._faults.at(call.at) == "list-signature" else "good"])
            case "POST", "/api/client/v2/token":
                form = parse_qs(call.body.decode(errors="replace"))
                good = form.get("username") == [USER] and form.get("password") == [PASSWORD]
                return reply({"token": self._token(now)}) if good else reply({"message": "authentication failed"}, 401)
            case "GET", "/authv3/generateToken":
                good = _basic(call) == (USER, PASSWORD)
                return reply({"status": "OK", "token": self._token(now)} if good else UNKNOWN)
            case "POST", "/api/client/v2/dedicated_ip":
                return self._dedicated(call, now)
            case "GET", "/addKey" if call.at in self._gates:
                return self._add_key(self._gates[call.at], call, now)
            case "GET", "/getSignature" if call.at in self._gates:
                good = self._good(call.query.get("token"), now)
                return reply(self._grant(now) if good else UNKNOWN)
            case "GET", "/bindPort" if call.at in self._gates:
                return self._bind(self._gates[call.at], call, now)
        return reply({"message": "no such question"}, 404)

    def _token(self, now: float) -> str:
        token = self._number() * 2
        self._tokens[token] = now + TOKEN_LIFE
        return token

    def _good(self, token: str | None, now: float) -> bool:
        return self._faults.at("pia-api") != "tokens-expire" and now < self._tokens.get(token or "", 0.0)

    def forget_tokens(self) -> None:
        """Make all tokens expire, as after a day."""
        self._tokens.clear()

    def _dedicated(self, call: Call, now: float) -> HttpReply:
        if not self._good(call.headers.get("authorization", "").removeprefix("Token "), now):
            return reply(UNKNOWN, 401)
        gate = self._own()
        if call.json().get("tokens") != [DEDICATED]:
            return reply([{"status": "invalid"}])
        more = {"dip_token": DEDICATED, "dip_expire": int(now + PORT_LIFE), "groups": ["wg"]}
        return reply([{"status": "active", "ip": gate.address, "cn": gate.server, "id": gate.region, **more}])

    def _own(self) -> Gate:
        return list(self._gates.values())[1]

    def _add_key(self, gate: Gate, call: Call, now: float) -> HttpReply:
        account = USER
        if "authorization" in call.headers:
            if _basic(call) != (f"dedicated_ip_{DEDICATED}", gate.address) or gate != self._own():
                return reply(UNKNOWN, 401)
            account = DEDICATED
        elif not self._good(call.query.get("pt"), now):
            return reply(UNKNOWN)
        if self._faults.at(gate.server) == "refuse-key":
            return reply({"status": "ERROR", "message": "Server is at capacity"})
        key = call.query.get("pubkey", "")
        if not _is_key(key):
            return reply({"status": "ERROR", "message": "Invalid public key"})
        before = self._customers.get((account, gate.server))
        if before is not None and before != key:
            self._tunnels.remove(gate, before)
        if before != key:
            self._count[gate.server] = self._count.get(gate.server, 1) % 250 + 1
        self._customers[account, gate.server] = key
        address = vip(gate).removesuffix(".1") + f".{self._count[gate.server]}"
        self._tunnels.add(gate, key, [f"{address}/32"])
        return reply(
            {
                "status": "OK", "server_key": self._keys[gate.server], "server_port": gate.port,
                "server_ip": gate.address, "server_vip": vip(gate), "peer_ip": address, "peer_pubkey": key,
                "dns_servers": [DNS],
            }
        )  # fmt: skip

    def _grant(self, now: float) -> dict[str, str]:
        self._ports += 1
        ends = datetime.fromtimestamp(now + PORT_LIFE, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
        inside = {"token": self._number(), "port": FIRST_PORT + self._ports, "expires_at": ends}
        payload = b64encode(json.dumps(inside).encode()).decode()
        return {"status": "OK", "payload": payload, "signature": self._sign(payload)}

    def _sign(self, payload: str) -> str:
        return b64encode(hmac.digest(self._secret, payload.encode(), sha256)).decode()

    def _bind(self, gate: Gate, call: Call, now: float) -> HttpReply:
        payload = call.query.get("payload", "")
        if not hmac.compare_digest(self._sign(payload), call.query.get("signature", "")):
            return reply({"status": "ERROR", "message": "invalid signature"}, 400)
        port = json.loads(b64decode(payload))["port"]
        if self._faults.at(gate.server) == "port-busy":
            return reply({"status": "ERROR", "message": f"port {port} is busy"}, 409)
        self._tunnels.lead(gate, port, call.client)
        return reply({"status": "OK", "message": "port scheduled for add"})


def _basic(call: Call) -> tuple[str, str]:
    """User and password of HTTP basic authentication; empty if there are none."""
    try:
        text = b64decode(call.headers.get("authorization", "").removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    user, _, password = text.partition(":")
    return user, password


def _is_key(text: str) -> bool:
    try:
        return len(b64decode(text, validate=True)) == 32
    except binascii.Error:
        return False
