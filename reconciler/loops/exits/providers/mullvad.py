"""Mullvad: one list of relays with their keys, and one device of the account that every relay knows.

So a switch to another gateway needs no request: its peer is known, and it knows us.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.base.web import Http, Request, Response
from reconciler.loops.exits.providers.asking import (
    LIST_LIMIT,
    LIST_SECONDS,
    ask,
    country_of,
    http_error,
    is_address,
    is_key,
    is_name,
    is_port,
    moment,
    opened,
    parsed,
    session_of,
    title_of,
    unreadable,
)
from reconciler.loops.exits.providers.base import (
    Clock,
    Credentials,
    Gateway,
    PortForward,
    ProviderError,
    Registration,
    within,
)
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.token import Token

NAME = "api.mullvad.net"
LIST = "/public/relays/wireguard/v2/"
TOKEN = "/auth/v1/token"
DEVICES = "/accounts/v1/devices"
PORT = 51820
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Relays:
    """The content of a list."""

    gateways: tuple[Gateway, ...]
    dns: tuple[str, ...]
    """The resolver inside every tunnel."""


def parse(document: dict[str, Any]) -> Relays:
    """A list of relays, version 2. Raises ValueError, TypeError, KeyError or AttributeError for another format."""
    wireguard, places = document["wireguard"], document["locations"]
    port = _port(wireguard["port_ranges"])
    gateways = []
    for relay in wireguard["relays"]:
        place = places.get(relay["location"], {})
        addresses = tuple(a for a in (relay["ipv4_addr_in"], relay.get("ipv6_addr_in")) if is_address(a))
        named = is_name(relay["location"]) and is_name(relay["hostname"])
        if not relay["active"] or not addresses or not named or not is_key(relay["public_key"]):
            continue
        gateways.append(
            Gateway(
                id=f"{relay['location']}/{relay['hostname']}",
                region=relay["location"],
                name=title_of(place.get("city"), relay["hostname"]),
                country=country_of(relay["location"].partition("-")[0]),
                addresses=addresses,
                port=port,
                weight=max(1, weight) if isinstance(weight := relay.get("weight"), int) else 1,
                public_key=relay["public_key"],
            )
        )
    dns = tuple(a for a in (wireguard.get("ipv4_gateway"), wireguard.get("ipv6_gateway")) if is_address(a))
    if not gateways:
        raise ValueError("no relay is active")
    return Relays(tuple(sorted(gateways, key=lambda gateway: gateway.id)), dns)


def _port(ranges: list[list[int]]) -> int:
    """The usual port if it is allowed, otherwise the first allowed one."""
    if any(low <= PORT <= high for low, high in ranges):
        return PORT
    first = next((low for low, _ in ranges if is_port(low)), None)
    if first is None:
        raise ValueError("no port")
    return first


class Mullvad:
    """One account, whose number is in the credentials, and one device for each of our keys."""

    def __init__(self, http: Http, clock: Clock, cache: Cache, credentials: Credentials) -> None:
        self._http, self._clock, self._cache, self._credentials = http, clock, cache, credentials
        self._token = Token(cache, clock, self._new_token)

    # The list

    def known(self) -> list[Gateway]:
        relays = self._kept()
        return list(relays.gateways) if relays else []

    def _kept(self) -> Relays | None:
        try:
            return parse(self._cache.load("relays")["document"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def discover(self) -> list[Gateway]:
        kept = self._kept()
        tag = self._cache.load("relays").get("etag") if kept else None
        headers = {"If-None-Match": tag} if isinstance(tag, str) else {}
        request = Request(NAME, LIST, headers=headers, seconds=LIST_SECONDS, limit=LIST_LIMIT)
        response = ask(self._http, request)
        if response.status == 304 and kept:
            return list(kept.gateways)
        if response.status != 200:
            raise http_error(request, response)
        try:
            document = json.loads(response.body)
            relays = parse(document)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ProviderError("ListUnreadable", "the list of relays cannot be read: it has another form") from None
        self._cache.save("relays", {"etag": response.headers.get("etag"), "document": document})
        return list(relays.gateways)

    # The account

    def _new_token(self) -> tuple[str, float]:
        account = "".join(opened(self._credentials, "Mullvad's account number").split())
        body = json.dumps({"account_number": account}).encode()
        request = Request(NAME, TOKEN, method="POST", headers=_JSON, body=body)
        response = ask(self._http, request)
        if response.status in (401, 403) or code_of(response) == "INVALID_ACCOUNT":
            raise ProviderError("CredentialsRefused", "Mullvad does not know the account number")
        if response.status != 200:
            raise http_error(request, response, [account])
        found = parsed(request, response)
        try:
            return str(found["access_token"]), moment(found["expiry"])
        except (ValueError, TypeError, KeyError):
            raise unreadable(request) from None

    def _ask(
        self, method: Literal["GET", "POST", "DELETE"], path: str, value: object = None
    ) -> tuple[Request, Response]:
        body = b"" if value is None else json.dumps(value).encode()

        def build(token: str) -> Request:
            headers = {"Authorization": f"Bearer {token}", **(_JSON if body else {})}
            return Request(NAME, path, method=method, headers=headers, body=body)

        return build(""), self._token.ask(self._http, build, _token_refused)

    # The device

    def register(self, gateway: Gateway, public_key: str) -> Registration:
        device = self._device()
        if device.get("pubkey") != public_key:
            device = self._new_device(public_key)
        return self._session(gateway, device)

    def _device(self) -> dict[str, Any]:
        kept = self._cache.load("device")
        return kept if is_device(kept) else {}

    def _new_device(self, public_key: str) -> dict[str, Any]:
        request, response = self._ask("POST", DEVICES, {"pubkey": public_key, "hijack_dns": False})
        if code_of(response) == "MAX_DEVICES_REACHED":
            raise ProviderError(
                "DeviceLimit",
                "the account has as many devices as it may have: remove one at https://mullvad.net/account/devices",
            )
        if code_of(response) == "PUBKEY_IN_USE":
            return self._keep(request, self._same_device(public_key))
        if response.status not in (200, 201):
            raise http_error(request, response, [public_key])
        return self._keep(request, parsed(request, response))

    def _keep(self, request: Request, device: object) -> dict[str, Any]:
        if not isinstance(device, dict) or not is_device(device):
            raise unreadable(request)
        kept = {name: device[name] for name in ("id", "pubkey", "ipv4_address", "ipv6_address") if device.get(name)}
        self._cache.save("device", kept)
        return kept

    def _same_device(self, public_key: str) -> object:
        """The device that already has our key, in case its record here was lost."""
        request, response = self._ask("GET", DEVICES)
        if response.status != 200:
            raise http_error(request, response)
        found = parsed(request, response)
        devices = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        same = next((one for one in devices if one.get("pubkey") == public_key), None)
        if same is None:
            raise ProviderError("Refused", "Mullvad says that another account's device has our key: rotate it")
        return same

    def _session(self, gateway: Gateway, device: dict[str, Any]) -> Registration:
        if gateway.public_key is None:
            raise ProviderError("Refused", f"{gateway.id} has no key in the list")
        relays = self._kept()
        addresses = tuple(device[name] for name in ("ipv4_address", "ipv6_address") if device.get(name))
        return session_of(
            Registration(
                gateway=gateway,
                public_key=gateway.public_key,
                endpoint=gateway.endpoint,
                addresses=addresses,
                dns=relays.dns if relays else (),
            )
        )

    def renew(self, session: Registration, public_key: str) -> Registration:
        """Check that the device still exists, and create it again if it was removed."""
        device = self._device()
        if device.get("pubkey") == public_key:
            request, response = self._ask("GET", f"{DEVICES}/{device['id']}")
            if response.status == 200:
                return self._session(session.gateway, self._keep(request, parsed(request, response)))
            if response.status != 404:
                raise http_error(request, response)
            self._cache.drop("device")
        return self.register(session.gateway, public_key)

    def release(self, session: Registration) -> None:
        device = self._device()
        if not device:
            return
        request, response = self._ask("DELETE", f"{DEVICES}/{device['id']}")
        if response.status not in (200, 204, 404):
            raise http_error(request, response)
        self._cache.drop("device")

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        return None


def code_of(response: Response) -> str:
    """The code of an error in Mullvad's API: `{"code": "PUBKEY_IN_USE", "detail": …}`."""
    if response.status < 400:
        return ""
    try:
        return str(json.loads(response.body)["code"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _token_refused(response: Response) -> bool:
    return response.status == 401 or code_of(response) == "INVALID_ACCESS_TOKEN"


def is_device(value: dict[str, Any]) -> bool:
    """Whether it is a device of an account, with at least one address within the tunnels."""
    addresses = [value.get(name) for name in ("ipv4_address", "ipv6_address") if value.get(name)]
    try:
        whole = bool(addresses) and all(isinstance(address, str) and within(address) for address in addresses)
    except ValueError:
        return False
    return whole and is_key(value.get("pubkey")) and isinstance(value.get("id"), str)
