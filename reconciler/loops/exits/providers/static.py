"""Gateways that were written down: any WireGuard server that knows our key already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.loops.exits.providers.base import KEEPALIVE, Gateway, PortForward, ProviderError, Session


@dataclass(frozen=True, slots=True)
class Fixed:
    """A gateway, and what its owner has told us."""

    gateway: Gateway
    addresses: tuple[str, ...]
    """Ours within the tunnel, with their lengths."""
    dns: tuple[str, ...] = ()
    keepalive: int = KEEPALIVE


class Static:
    """Asks nobody."""

    def __init__(self, gateways: Sequence[Fixed]) -> None:
        self._fixed = {fixed.gateway.id: fixed for fixed in gateways}

    def known(self) -> list[Gateway]:
        return [fixed.gateway for _, fixed in sorted(self._fixed.items())]

    def discover(self) -> list[Gateway]:
        return self.known()

    def register(self, gateway: Gateway, public_key: str) -> Session:
        fixed = self._fixed.get(gateway.id)
        if fixed is None or gateway.public_key is None:
            raise ProviderError("Refused", f"{gateway.id} is no gateway that is written down with its key")
        return Session(
            gateway=gateway,
            public_key=gateway.public_key,
            endpoint=gateway.endpoint,
            addresses=fixed.addresses,
            dns=fixed.dns,
            keepalive=fixed.keepalive,
        )

    def renew(self, session: Session, public_key: str) -> Session:
        return self.register(session.gateway, public_key)

    def release(self, session: Session) -> None:
        pass

    def forward(self, session: Session, dev: str) -> PortForward | None:
        return None
