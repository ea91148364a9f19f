"""A provider's server in memory: answers by host and path, and keeps what it was asked."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from reconciler.base.web import Request, Response, WebError

KEY = b64encode(bytes(range(32))).decode()
OURS = b64encode(bytes(range(1, 33))).decode()
NOW = 1_800_000_000.0

Answer = Response | WebError | Callable[[Request], Response]


def said(value: object, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, json.dumps(value).encode())


@dataclass
class Server:
    """Answers of a path are given one after the other; the last of them again and again."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def on(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        known = self.answers.get(request.title) or self.answers.get(request.path)
        if known is None:
            raise WebError("Unreachable", f"{request.name} does not answer")
        answer = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(answer, WebError):
            raise answer
        return answer if isinstance(answer, Response) else answer(request)

    def paths(self) -> list[str]:
        return [request.path for request in self.asked]


@cache
def signer(number: int = 0) -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def public_pem(key: RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed_list(document: object, key: RSAPrivateKey | None = None) -> bytes:
    """As PIA serves it: JSON, two line ends, the signature in base64 on lines of 64."""
    data = json.dumps(document).encode()
    signature = b64encode((key or signer()).sign(data, PKCS1v15(), SHA256())).decode()
    lines = [signature[n : n + 64] for n in range(0, len(signature), 64)]
    return data + b"\n\n" + "\n".join(lines).encode() + b"\n"


def pia_document() -> dict[str, object]:
    def region(name: str, country: str, **more: object) -> dict[str, object]:
        wg = [{"ip": f"192.0.2.{len(name)}{n}", "cn": f"{name}40{n}"} for n in (1, 2)]
        # Another set, in another order, as in the real list.
        meta = [{"ip": f"198.51.100.{len(name)}{n}", "cn": f"{name}40{n}"} for n in (3, 2)]
        return {
            "id": name, "name": name.title(), "country": country, "auto_region": True, "dns": f"{name}.example.net",
            "port_forward": country != "US", "geo": False, "offline": False,
            "servers": {"wg": wg, "meta": meta}, **more,
        }  # fmt: skip

    return {
        "groups": {"wg": [{"name": "wireguard", "ports": [1337]}], "meta": [{"name": "meta", "ports": [443, 8080]}]},
        "regions": [region("uk", "GB"), region("ohio", "US"), region("spain", "ES", offline=True)],
    }


def added(public_key: str = OURS) -> dict[str, object]:
    """What addKey answers."""
    return {
        "status": "OK", "server_key": KEY, "server_port": 1337, "server_ip": "192.0.2.21", "server_vip": "10.4.128.1",
        "peer_ip": "10.4.137.9", "peer_pubkey": public_key, "dns_servers": ["10.0.0.243", "10.0.0.242"],
    }  # fmt: skip


def granted(port: int = 40123, until: float = NOW + 60 * 86_400) -> dict[str, str]:
    """What getSignature answers: the time has nine digits of a second there."""
    text = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    payload = b64encode(json.dumps({"token": "of-the-port", "port": port, "expires_at": text}).encode()).decode()
    return {"status": "OK", "payload": payload, "signature": "c2lnbmF0dXJl"}


def relay_document() -> dict[str, object]:
    def relay(name: str, **more: object) -> dict[str, object]:
        return {
            "hostname": name, "location": name[:6], "active": True, "owned": True, "provider": "31173",
            "ipv4_addr_in": "203.0.113.66", "ipv6_addr_in": "2001:db8:66::f001", "weight": 100,
            "include_in_country": True, "public_key": KEY, **more,
        }  # fmt: skip

    return {
        "locations": {"se-mma": {"city": "Malmö", "country": "Sweden", "latitude": 55.6, "longitude": 13.0}},
        "wireguard": {
            "port_ranges": [[53, 53], [4000, 33433], [51820, 51820]],
            "ipv4_gateway": "10.64.0.1",
            "ipv6_gateway": "fc00:bbbb:bbbb:bb01::1",
            "shadowsocks_port_ranges": [],
            "relays": [relay("se-mma-wg-002"), relay("se-mma-wg-001"), relay("se-mma-wg-003", active=False)],
        },
    }


def device(public_key: str = OURS, name: str = "brave otter") -> dict[str, object]:
    return {
        "id": "5f0c-11", "name": name, "pubkey": public_key, "hijack_dns": False,
        "ipv4_address": "10.66.3.4/32", "ipv6_address": "fc00:bbbb:bbbb:bb01::3:304/128",
    }  # fmt: skip
