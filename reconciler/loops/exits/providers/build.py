"""An exit of the plan -> its provider."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from reconciler.loops.exits.providers.base import Clock, Provider, ProviderError
from reconciler.loops.exits.providers.cache import Cache
from reconciler.loops.exits.providers.mullvad import Mullvad
from reconciler.loops.exits.providers.pia import Pia
from reconciler.loops.exits.providers.pia_account import Pinned
from reconciler.loops.exits.providers.static import Static
from reconciler.web import Http
from schema.plan import SecretRef
from schema.plan.exits import Exit

PROVIDER_KEY, AUTHORITY = "provider-key.pem", "ca.rsa.4096.crt"


def build(
    exit: Exit,
    folder: Path,
    pia: Path,
    http: Http,
    clock: Clock,
    secret: Callable[[SecretRef], bytes],
    resolve: Callable[[str], str],
) -> Provider:
    """`folder`: of all exits in the agent's state. `pia`: where PIA's two files are pinned on this host.

    `secret` raises LookupError, ValueError or OSError; `resolve` OSError.
    """
    if exit.provider in ("static", "site"):
        return Static(exit.gateways or (), resolve)

    def credentials() -> bytes:
        if exit.credentials is None:
            raise LookupError("no credentials")
        return secret(exit.credentials)

    cache = Cache(folder / _account(exit))
    if exit.provider == "mullvad":
        return Mullvad(http, clock, cache, credentials)
    return Pia(http, clock, cache, credentials, lambda: pinned(pia))


def pinned(folder: Path) -> Pinned:
    """What PIA is known by. Raises ProviderError."""
    texts = []
    for name in (PROVIDER_KEY, AUTHORITY):
        try:
            texts.append((folder / name).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            text = f"{folder / name} cannot be read: docs/exits.md says where PIA publishes it"
            raise ProviderError("NotPinned", text) from None
    return Pinned(*texts)


def _account(exit: Exit) -> str:
    """A name for what is kept: tokens and devices of one account are of no use to another."""
    fingerprint = exit.credentials.fingerprint if exit.credentials else ""
    return f"{exit.name}-{blake2b(fingerprint.encode(), digest_size=4).hexdigest()}"
