"""What the loop wants of a provider of exits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal, Protocol

from reconciler.base import web
from reconciler.kinds.peer import endpoint_parts
from schema.ip import Interface, endpoint_text
from schema.plan import Address, Peer

KEEPALIVE = 15
"""Seconds, as smart-vpn-client had it: less than any NAT forgets after."""

ProviderReason = Literal[
    web.HttpFailure,
    "AnswerUnreadable",
    "CredentialsRefused",
    "CredentialsUnreadable",
    "DeviceLimit",
    "HttpError",
    "KeyUnusable",
    "ListUnreadable",
    "NotPinned",
    "PortRefused",
    "ProviderUnusable",
    "Refused",
    "SignatureWrong",
    "TokenExpired",
    "Unforeseen",
]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Something that can be connected to: one server, of which a region may have several."""

    id: str
    """Stable: `uk/london401`, `se-mma/se-mma-wg-001`."""
    region: str
    name: str
    country: str
    """ISO 3166, in lower case; empty where nobody said."""
    addresses: tuple[str, ...]
    """IPv4, IPv6 or both: of the server that will carry the tunnel, which is led to the first of them."""
    port: int
    weight: int = 1
    public_key: str | None = None
    """Mullvad, static: known from the list. PIA: what registering gives."""
    server_name: str | None = None
    """PIA: the common name in the server's certificate."""
    port_forward: bool = False

    @property
    def endpoint(self) -> str:
        """Where its tunnel leads, as WireGuard writes it."""
        return endpoint_text(self.addresses[0], self.port)


@dataclass(frozen=True, slots=True)
class Registration:
    """What registering gives: all that a tunnel needs but the private key."""

    gateway: Gateway
    public_key: str
    endpoint: str
    """`203.0.113.1:1337` or `[2001:db8::1]:1337`."""
    addresses: tuple[str, ...]
    """Ours within the tunnel, with their lengths."""
    dns: tuple[str, ...]
    keepalive: int = KEEPALIVE
    expires: float | None = None
    """Seconds since the epoch; None: not known before it ends."""
    server_vip: str | None = None
    """PIA: the server's address within the tunnel."""


def checked(session: Registration) -> Registration:
    """A session that the kernel can be given, in canonical text. Raises ValueError.

    One that cannot would take all exits with it, for they are held together; and again after every start.
    """
    host, port = endpoint_parts(session.endpoint)
    endpoint = endpoint_text(Interface.parse(host).address, port)
    addresses = tuple(dict.fromkeys(within(address) for address in session.addresses))
    dns = tuple(dict.fromkeys(Interface.parse(server).address for server in session.dns))
    if not addresses or not 0 < port < 65536:
        raise ValueError("a tunnel needs an address, and a port at its gateway")
    Peer(dev="wg", public_key=session.public_key, endpoint=endpoint, keepalive=session.keepalive)
    for address in addresses:
        Address(dev="wg", address=address)
    return replace(session, endpoint=endpoint, addresses=addresses, dns=dns)


def within(text: str) -> str:
    """An address of ours within a tunnel with its whole length: a shorter one would be a route. Raises ValueError."""
    found = Interface.parse(text)
    address = ip_address(found.address)
    if address.is_unspecified or address.is_loopback or address.is_multicast:
        raise ValueError(f"{text!r} is nobody's own address")
    return f"{found.address}/{address.max_prefixlen}"


@dataclass(frozen=True, slots=True)
class PortForward:
    """A port of the gateway that leads to us."""

    port: int
    expires: float
    """Seconds since the epoch; from then on it is another port."""
    again: float
    """When `forward` has to be called again for it to stay, in seconds since the epoch."""


class ProviderError(Exception):
    """What a provider did not do. The message is for people and holds no token, password or key."""

    def __init__(self, reason: ProviderReason, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason: ProviderReason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds, where the provider has said so."""


class Provider(Protocol):
    """One exit's provider. Every call but `known` may block, for at most a minute, and raises ProviderError."""

    def known(self) -> list[Gateway]:
        """The gateways of the last good list, without the network: for a start without it. Empty where none is kept."""
        ...

    def discover(self) -> list[Gateway]:
        """The gateways of now, by id. What fails leaves `known` as it was."""
        ...

    def register(self, gateway: Gateway, public_key: str) -> Registration:
        """Make a gateway take our key. Asks nobody where the provider knows it already."""
        ...

    def renew(self, session: Registration, public_key: str) -> Registration:
        """Make sure of a session: before it expires, or when its handshakes stop."""
        ...

    def release(self, session: Registration) -> None:
        """Take our key back, when the exit goes for good; a gateway that is left for another needs none of this."""
        ...

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        """Get or keep a port by the tunnel `dev`, which has to be up; None where the provider has none to give."""
        ...


Credentials = Callable[[], bytes]
"""Opens a secret at the moment of use. Raises LookupError, ValueError or OSError, without the secret in them."""
Clock = Callable[[], float]
"""Seconds since the epoch."""
