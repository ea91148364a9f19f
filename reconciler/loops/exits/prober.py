"""Asks, through the tunnel of a gateway, for what proves that it leads to the internet."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from reconciler.loops.exits.health import Answer
from reconciler.web import Http, Request, WebError
from schema.plan import ExitHealth

RESOLVED = 60.0
"""Seconds for which the address of who is asked is good."""
LIMIT = 64 << 10
"""Bytes of an answer."""
SOMEBODY_ELSE = ("CertificateWrong", "TlsFailed", "NotHttp", "TooLarge")
"""Who answers in another way than a web server, or under another name, is not the one that was asked."""


class Prober:
    """Probes of all exits. `resolve` gives an address for a name, beside every tunnel, and raises OSError."""

    def __init__(self, http: Http, resolve: Callable[[str], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._http, self._resolve, self._clock = http, resolve, clock
        self._resolved: dict[str, tuple[float, str]] = {}

    def ask(self, health: ExitHealth, dev: str) -> Answer:
        """One probe through a tunnel. Blocks for at most its timeout."""
        url = urlsplit(health.check)
        tls = url.scheme == "https"
        name = url.hostname or ""
        request = Request(
            name=name,
            path=url.path or "/",
            address=self._address(name),
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
            return Answer(self._clock() - started if error.reason in SOMEBODY_ELSE else None, genuine=False)
        return Answer(self._clock() - started, response.status == health.expect)

    def _address(self, name: str) -> str | None:
        """Of who is asked; looked up beforehand, so that looking up is no part of the round trip."""
        now = self._clock()
        at, address = self._resolved.get(name, (0.0, ""))
        if not address or now - at > RESOLVED:
            try:
                address = self._resolve(name)
            except OSError:
                pass  # the last one may still be right
            else:
                self._resolved[name] = (now, address)
        return address or None
