"""The interface of a provider of exits."""

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
"""Seconds, as in smart-vpn-client: shorter than the timeout of any NAT."""

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
    """A server to connect to; a region may have several."""

    id: str
    """Stable: `uk/london401`, `se-mma/se-mma-wg-001`."""
    region: str
    name: str
    country: str
    """ISO 3166, in lower case; empty if unknown."""
    addresses: tuple[str, ...]
    """IPv4, IPv6 or both: addresses of the server for the tunnel. The tunnel uses the first one."""
    port: int
    weight: int = 1
    public_key: str | None = None
    """Mullvad and static: known from the list. PIA: returned by registering."""
    server_name: str | None = None
    """PIA: the common name in the server's certificate."""
    port_forward: bool = False

    @property
    def endpoint(self) -> str:
        """The tunnel's endpoint, as WireGuard writes it."""
        return endpoint_text(self.addresses[0], self.port)


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of registering: everything that a tunnel needs except the private key."""

    gateway: Gateway
    public_key: str
    endpoint: str
    """`203.0.113.1:1337` or `[2001:db8::1]:1337`."""
    addresses: tuple[str, ...]
    """Our addresses within the tunnel, with prefix lengths."""
    dns: tuple[str, ...]
    keepalive: int = KEEPALIVE
    expires: float | None = None
    """Seconds since the epoch; None if the end is not known in advance."""
    server_vip: str | None = None
    """PIA: the server's address within the tunnel."""


def checked(session: Registration) -> Registration:
    """A session that the kernel accepts, in canonical text. Raises ValueError.

    An invalid session would make all exits fail, because they are applied together, and again after every start.
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
    """Our address within a tunnel, with full prefix length; a shorter one would be a route. Raises ValueError."""
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
    """Seconds since the epoch; then the port changes."""
    again: float
    """The time to call `forward` again to keep the port, in seconds since the epoch."""


class ProviderError(Exception):
    """A provider's failure. The message is for people and contains no token, password or key."""

    def __init__(self, reason: ProviderReason, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason: ProviderReason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds, if the provider named a time."""


class Provider(Protocol):
    """One exit's provider. Every call except `known` may block, for at most a minute, and raises ProviderError."""

    def known(self) -> list[Gateway]:
        """The gateways of the last valid list, for a start without network access. Empty if none is stored."""
        ...

    def discover(self) -> list[Gateway]:
        """The current gateways, sorted by id. A failure leaves `known` unchanged."""
        ...

    def register(self, gateway: Gateway, public_key: str) -> Registration:
        """Make a gateway accept our key. Sends nothing if the provider knows it already."""
        ...

    def renew(self, session: Registration, public_key: str) -> Registration:
        """Ensure a session: before it expires, or when its handshakes stop."""
        ...

    def release(self, session: Registration) -> None:
        """Remove our key when the exit goes for good. Switching to another gateway does not need this."""
        ...

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        """Get or keep a port through the tunnel `dev`, which must be up; None if the provider forwards none."""
        ...


Credentials = Callable[[], bytes]
"""Opens a secret when it is used. Raises LookupError, ValueError or OSError, without the secret in their texts."""
Clock = Callable[[], float]
"""Seconds since the epoch."""
