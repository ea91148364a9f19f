"""Builds the provider of an exit of the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from reconciler.base.web import Http
from reconciler.loops.exits.providers.base import Clock, Provider, ProviderError
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.mullvad import Mullvad
from reconciler.loops.exits.providers.pia import Pia
from reconciler.loops.exits.providers.pia_account import Pinned
from reconciler.loops.exits.providers.static import Static
from schema.plan import SecretRef
from schema.plan.exits import Exit
from schema.plan.providers import PIA

PROVIDER_KEY, AUTHORITY = PIA.pinned


@dataclass(frozen=True, slots=True)
class HostServices:
    """The host's services for an adapter."""

    exit: Exit
    cache: Cache
    pia: Path
    """The folder with PIA's two pinned files."""
    http: Http
    clock: Clock
    secret: Callable[[SecretRef], bytes]
    resolve: Callable[[str], str]

    def credentials(self) -> bytes:
        """Raises LookupError, ValueError or OSError."""
        if self.exit.credentials is None:
            raise LookupError("no credentials")
        return self.secret(self.exit.credentials)


Adapter = Callable[[HostServices], Provider]


def _pia(parts: HostServices) -> Provider:
    return Pia(parts.http, parts.clock, parts.cache, parts.credentials, lambda: pinned(parts.pia))


def _mullvad(parts: HostServices) -> Provider:
    return Mullvad(parts.http, parts.clock, parts.cache, parts.credentials)


def _static(parts: HostServices) -> Provider:
    return Static(parts.exit.gateways or (), parts.resolve)


ADAPTERS: dict[str, Adapter] = {"pia": _pia, "mullvad": _mullvad, "static": _static, "site": _static}
"""The adapter of each provider of `schema/plan/providers.py`."""


def build(
    exit: Exit,
    folder: Path,
    pia: Path,
    http: Http,
    clock: Clock,
    secret: Callable[[SecretRef], bytes],
    resolve: Callable[[str], str],
) -> Provider:
    """Build the provider of an exit. `folder`: for all exits in the agent's state. `pia`: PIA's two pinned files.

    `secret` raises LookupError, ValueError or OSError; `resolve` OSError. Raises ProviderError if the plan lacks what
    the provider needs, or if there is no adapter.
    """
    facts = exit.facts
    if facts.needs == "credentials" and exit.credentials is None:
        raise _unusable(exit, "needs `credentials`, and the plan names none")
    adapter = ADAPTERS.get(facts.name)
    if adapter is None:
        raise _unusable(exit, "is not spoken to by this version of gitwan: there is no adapter for it")
    return adapter(HostServices(exit, Cache(folder / _account(exit)), pia, http, clock, secret, resolve))


def _unusable(exit: Exit, what: str) -> ProviderError:
    return ProviderError("ProviderUnusable", f"the provider {exit.provider} of the exit {exit.name} {what}")


def pinned(folder: Path) -> Pinned:
    """PIA's pinned key and authority. Raises ProviderError."""
    texts = []
    for name in (PROVIDER_KEY, AUTHORITY):
        try:
            texts.append((folder / name).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            text = f"{folder / name} cannot be read: docs/exits.md says where PIA publishes it"
            raise ProviderError("NotPinned", text) from None
    return Pinned(*texts)


def _account(exit: Exit) -> str:
    """The name of an account's cache: tokens and devices of one account are useless for another."""
    fingerprint = exit.credentials.fingerprint if exit.credentials else ""
    return f"{exit.name}-{blake2b(fingerprint.encode(), digest_size=4).hexdigest()}"
