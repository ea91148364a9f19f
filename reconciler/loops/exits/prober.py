"""Probes through a gateway's tunnel whether it leads to the internet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from reconciler.base.web import Http, Request, WebError
from reconciler.loops.exits.health import ProbeResult
from reconciler.loops.exits.providers.base import ProviderError, Registration
from schema.ip import parse_address
from schema.plan import Exit, family_of
from schema.plan.base import Family

RESOLVED = 60.0
"""Seconds for which the resolved address of a probe's target is used."""
LIMIT = 64 << 10
"""Maximum bytes of an answer."""
SERVERS, SERVER_SECONDS = 2, 2.0
"""Maximum number of DNS servers asked within a tunnel, and seconds for each."""
SOMEBODY_ELSE = ("CertificateWrong", "TlsFailed", "NotHttp", "TooLarge")
"""Failures that show that another server answered than the one that was asked."""

ResolveName = Callable[[str, Family], str]
"""Resolves a name outside every tunnel. Raises OSError."""
AskName = Callable[[str, str, Family, str, float], str]
"""Asks a server for a name, through a device, within a number of seconds. Raises OSError."""


class ExitProber:
    """Probes of all exits."""

    def __init__(
        self, http: Http, resolve: ResolveName, ask_name: AskName, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http, self._resolve, self._ask_name, self._clock = http, resolve, ask_name, clock
        self._resolved: dict[tuple[str, Family, str], tuple[float, str]] = {}

    def ask(self, exit: Exit, session: Registration, dev: str) -> ProbeResult:
        """Send one probe through a tunnel. Raises ProviderError if the target's name has no address.

        Blocks for at most the probe's timeout, plus the time to resolve the name.
        """
        health = exit.health
        url = urlsplit(health.check)
        tls = url.scheme == "https"
        name = url.hostname or ""
        request = Request(
            name=name,
            path=url.path or "/",
            target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
            address=self._address(name, exit, session, dev),
            port=url.port or (443 if tls else 80),
            tls=tls,
            seconds=health.timeout,
            limit=LIMIT,
            dev=dev,
        )
        started = self._clock()
        try:
            response = self._http(request)
        except WebError as error:
            return ProbeResult(self._clock() - started if error.reason in SOMEBODY_ELSE else None, genuine=False)
        return ProbeResult(self._clock() - started, response.status == health.expect)

    def _address(self, name: str, exit: Exit, session: Registration, dev: str) -> str:
        """The target's address, in a family of the tunnel. It is resolved before the round trip is measured."""
        try:
            parse_address(name)
        except ValueError:
            found = next(self._found(name, exit, session, dev), None)
        else:
            return name
        if found is None:
            text = f"{name}, which `health.check` names, cannot be resolved, neither beside the tunnel nor through it"
            raise ProviderError("NameUnknown", f"{text}: give this host another nameserver, or write an address there")
        return found

    def _found(self, name: str, exit: Exit, session: Registration, dev: str) -> Iterator[str]:
        """Resolve outside the tunnel, else with the servers inside: the kill switch refuses a separate resolver
        process."""
        there = {family_of(address) for address in session.addresses}
        families: list[Family] = [family for family in ("inet", "inet6") if family in there]
        for family in families:
            yield from self._kept(name, family, "", partial(self._resolve, name, family))
        servers = [server for server in dict.fromkeys((*session.dns, *(exit.dns or ()))) if family_of(server) in there]
        seconds = min(SERVER_SECONDS, exit.health.timeout)
        for family in families:
            for server in servers[:SERVERS]:
                # Only for this gateway: others need not trust its answer.
                look_up = partial(self._ask_name, server, name, family, dev, seconds)
                yield from self._kept(name, family, session.gateway.id, look_up)

    def _kept(self, name: str, family: Family, teller: str, look_up: Callable[[], str]) -> Iterator[str]:
        now, key = self._clock(), (name, family, teller)
        at, address = self._resolved.get(key, (0.0, ""))
        if not address or now - at > RESOLVED:
            try:
                address = look_up()
            except OSError:
                pass  # the last address may still be right
            else:
                self._resolved[key] = (now, address)
        if address:
            yield address
