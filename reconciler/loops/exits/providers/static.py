"""Written gateways: any WireGuard servers that already know our key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.kinds.peer import endpoint_parts
from reconciler.loops.exits.providers.asking import is_address, session_of
from reconciler.loops.exits.providers.base import KEEPALIVE, Gateway, PortForward, ProviderError, Registration
from schema.plan.exits import WrittenGateway


class Static:
    """Sends nothing except DNS queries. `resolve` returns an address for a name, and raises OSError."""

    def __init__(self, gateways: Sequence[WrittenGateway], resolve: Callable[[str], str]) -> None:
        self._fixed = {fixed.name: fixed for fixed in gateways}
        self._ends = {fixed.name: endpoint_parts(fixed.endpoint) for fixed in gateways}
        self._resolve = resolve
        self._found: dict[str, str] = {host: host for host, _ in self._ends.values() if is_address(host)}

    def known(self) -> list[Gateway]:
        return [
            Gateway(
                id=name,
                region=name,
                name=name,
                country=fixed.country,
                addresses=(self._found[host],),
                port=port,
                public_key=fixed.public_key,
            )
            for name, fixed in sorted(self._fixed.items())
            for host, port in [self._ends[name]]
            if host in self._found
        ]

    def discover(self) -> list[Gateway]:
        missing = []
        for host, _ in self._ends.values():
            if is_address(host):
                continue
            try:
                self._found[host] = self._resolve(host)
            except OSError:
                missing.append(host)
        if missing and not self.known():
            raise ProviderError("NameUnknown", f"{', '.join(sorted(missing))} cannot be resolved")
        return self.known()

    def register(self, gateway: Gateway, public_key: str) -> Registration:
        fixed = self._fixed.get(gateway.id)
        if fixed is None:
            raise ProviderError("Refused", f"{gateway.id} is no gateway that is written down")
        return session_of(
            Registration(
                gateway=gateway,
                public_key=fixed.public_key,
                endpoint=gateway.endpoint,
                addresses=fixed.addresses,
                dns=fixed.dns,
                keepalive=KEEPALIVE,
            )
        )

    def renew(self, session: Registration, public_key: str) -> Registration:
        return self.register(session.gateway, public_key)

    def release(self, session: Registration) -> None:
        pass

    def forward(self, session: Registration, dev: str) -> PortForward | None:
        return None
