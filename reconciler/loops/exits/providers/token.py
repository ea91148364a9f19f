"""A provider's token for credentials: stored until it expires, and fetched again if it is refused."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.base.web import Http, Request, Response
from reconciler.loops.exits.providers.asking import ask
from reconciler.loops.exits.providers.base import Clock, ProviderError
from reconciler.loops.exits.providers.cache import Cache

MARGIN = 3600.0
"""A token is not used this many seconds before its end, or in the last tenth of its life if that is shorter."""


class Token:
    """`fetch` asks the provider. It returns the token and its end, in seconds since the epoch."""

    def __init__(self, cache: Cache, clock: Clock, fetch: Callable[[], tuple[str, float]]) -> None:
        self._cache, self._clock, self._fetch = cache, clock, fetch

    def get(self, fresh: bool = False) -> str:
        """The stored token if it is still valid and not `fresh`, otherwise a new one. Raises ProviderError."""
        kept = None if fresh else self._kept()
        if kept is not None:
            return kept
        new, end = self._fetch()
        self._cache.save("token", {"token": new, "since": float(self._clock()), "until": float(end)})
        return new

    def _kept(self) -> str | None:
        kept = self._cache.load("token")
        try:
            token, since, until = str(kept["token"]), float(kept["since"]), float(kept["until"])
        except (KeyError, TypeError, ValueError):
            return None
        # A clock that was set back does not show the token's age.
        good = since <= self._clock() < until - min(MARGIN, (until - since) / 10)
        return token if good else None

    def ask(self, http: Http, build: Callable[[str], Request], refused: Callable[[Response], bool]) -> Response:
        """Send a request that needs the token; if it is refused, try once with a new one.

        Raises ProviderError, with the reason TokenExpired if the new one is refused too.
        """
        for fresh in (False, True):
            request = build(self.get(fresh))
            response = ask(http, request)
            if not refused(response):
                return response
        self._cache.drop("token")
        raise ProviderError("TokenExpired", f"{request.title} refuses even a token that it has just given")
