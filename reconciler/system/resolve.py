"""Resolves names within a bounded time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

from reconciler.system.aside import Aside
from schema.plan.base import Family

RESOLVE_SECONDS = 2.0
"""Maximum seconds that applying waits for a DNS name. Then a peer is created without an endpoint, which is set
later."""
RESOLVE_AGAIN = 30.0
AddressLookup = Callable[[str, Family | None], str]
"""Looks up an address of a name, of one family or any. Raises OSError."""


class Resolver:
    """Resolves names within a bounded time, and does not ask again soon for a name that failed."""

    def __init__(
        self,
        lookup: AddressLookup | None = None,
        clock: Callable[[], float] = time.monotonic,
        aside: Aside = nullcontext,
    ) -> None:
        """While it waits, it steps `aside`, so that other threads can use the kernel."""
        self._aside = aside
        self._lookup = lookup or _first_address
        self._clock = clock
        self._failed: dict[tuple[str, Family | None], float] = {}

    def __call__(self, name: str, family: Family | None = None) -> str:
        """An address of a name, of the given family if there is one. Raises OSError."""
        key = (name, family)
        if self._clock() < self._failed.get(key, 0.0):
            raise OSError(f"{name} did not resolve a moment ago")
        answer: list[str] = []
        asking = threading.Thread(target=self._ask, args=(*key, answer), daemon=True)
        asking.start()
        with self._aside():
            asking.join(RESOLVE_SECONDS)
        if not answer:
            self._failed[key] = self._clock() + RESOLVE_AGAIN
            raise OSError(f"{name} does not resolve")
        self._failed.pop(key, None)
        return answer[0]

    def _ask(self, name: str, family: Family | None, answer: list[str]) -> None:
        with suppress(OSError, UnicodeError):  # a missing answer is the result
            answer.append(self._lookup(name, family))


def _first_address(name: str, family: Family | None) -> str:
    of = {None: socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}[family]
    return str(socket.getaddrinfo(name, None, of, socket.SOCK_DGRAM)[0][4][0])
