"""Gateways that were written down: any WireGuard server that knows our key already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.loops.exits.providers.asking import is_address
from reconciler.loops.exits.providers.base import KEEPALIVE, Gateway, PortForward, ProviderError, Session


@dataclass(frozen=True, slots=True)
class Fixed:
    """What its owner has told us of a gateway."""

    name: str
    host: str
    """An address or a DNS name."""
    port: int
    public_key: str
    addresses: tuple[str, ...]
    """Ours within the tunnel, with their lengths."""
    dns: tuple[str, ...] = ()
    country: str = ""


class Static:
    """Asks nobody but DNS. `resolve` gives an address for a name, and raises OSError."""

    def __init__(self, gateways: Sequence[Fixed], resolve: Callable[[str], str]) -> None:
        self._fixed = {fixed.name: fixed for fixed in gateways}
        self._resolve = resolve
        self._found: dict[str, str] = {fixed.host: fixed.host for fixed in gateways if is_address(fixed.host)}

    def known(self) -> list[Gateway]:
        return [
            Gateway(
                id=name,
                region=name,
                name=name,
                country=fixed.country,
                addresses=(self._found[fixed.host],),
                port=fixed.port,
                public_key=fixed.public_key,
            )
            for name, fixed in sorted(self._fixed.items())
            if fixed.host in self._found
        ]

    def discover(self) -> list[Gateway]:
        missing = []
        for fixed in self._fixed.values():
            if is_address(fixed.host):
                continue
            try:
                self._found[fixed.host] = self._resolve(fixed.host)
            except OSError:
                missing.append(fixed.host)
        if missing and not self.known():
            raise ProviderError("NameUnknown", f"{', '.join(sorted(missing))} cannot be resolved")
        return self.known()

    def register(self, gateway: Gateway, public_key: str) -> Session:
        fixed = self._fixed.get(gateway.id)
        if fixed is None:
            raise ProviderError("Refused", f"{gateway.id} is no gateway that is written down")
        return Session(
            gateway=gateway,
            public_key=fixed.public_key,
            endpoint=gateway.endpoint,
            addresses=fixed.addresses,
            dns=fixed.dns,
            keepalive=KEEPALIVE,
        )

    def renew(self, session: Session, public_key: str) -> Session:
        return self.register(session.gateway, public_key)

    def release(self, session: Session) -> None:
        pass

    def forward(self, session: Session, dev: str) -> PortForward | None:
        return None
