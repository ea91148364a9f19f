"""PIA's list of servers (`/vpninfo/servers/v6`, and v7): JSON, followed by its base64 signature. Pure."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from reconciler.loops.exits.providers.asking import country_of, is_address, is_name, is_port, title_of
from reconciler.loops.exits.providers.base import Gateway, ProviderError
from reconciler.loops.exits.providers.signature import signed

PORT = 1337
"""The port of addKey (TCP) and of WireGuard (UDP), if the list does not say."""


@dataclass(frozen=True, slots=True)
class Meta:
    """A server that issues tokens, reached by address, so without DNS."""

    address: str
    name: str


@dataclass(frozen=True, slots=True)
class Servers:
    """The content of a list."""

    gateways: tuple[Gateway, ...]
    metas: tuple[Meta, ...]


def read(body: bytes, key: str) -> Servers:
    """Parse a list that is signed by the provider's key, in PEM. Raises ProviderError.

    The signature covers everything up to the last brace, as in PIA's own client, because base64 has no brace.
    """
    end = body.rfind(b"}") + 1
    if not body.startswith(b"{") or not end:
        raise _garbage("it is not JSON with a signature")
    try:
        signature = b64decode(b"".join(body[end:].split()), validate=True)
        good = bool(signature) and signed(body[:end], signature, key)
    except ValueError:
        raise ProviderError("SignatureWrong", _WRONG) from None
    if not good:
        raise ProviderError("SignatureWrong", _WRONG)
    try:
        return parse(json.loads(body[:end].decode()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _garbage("it has another form than the protocol's") from None


_WRONG = "the list of servers is not signed by the provider's key: it is not used"


def _garbage(why: str) -> ProviderError:
    return ProviderError("ListUnreadable", f"the list of servers cannot be read: {why}")


def parse(document: dict[str, Any]) -> Servers:
    """Raises ProviderError, or ValueError, TypeError, KeyError or AttributeError if the format is different."""
    port = next((p for group in document["groups"].get("wg", []) for p in group["ports"] if is_port(p)), PORT)
    gateways: dict[str, Gateway] = {}
    metas = []
    for region in document["regions"]:
        if region.get("offline"):
            continue
        # A region's lists of wg and meta servers differ, so a server is identified by its name, never by its position.
        for server in region["servers"].get("wg", []):
            if is_address(server["ip"]) and is_name(server["cn"]) and is_name(region["id"]):
                gateway = _gateway(region, server, port)
                gateways[gateway.id] = gateway
        metas += [
            Meta(server["ip"], server["cn"])
            for server in region["servers"].get("meta", [])
            if is_address(server["ip"]) and is_name(server["cn"])
        ]
    if not gateways:
        raise _garbage("it names no WireGuard server")
    return Servers(tuple(gateway for _, gateway in sorted(gateways.items())), tuple(metas))


def _gateway(region: dict[str, Any], server: dict[str, Any], port: int) -> Gateway:
    return Gateway(
        id=f"{region['id']}/{server['cn']}",
        region=region["id"],
        name=title_of(region.get("name"), region["id"]),
        country=country_of(region.get("country")),
        addresses=(server["ip"],),
        port=port,
        server_name=server["cn"],
        port_forward=bool(region.get("port_forward")),
    )
