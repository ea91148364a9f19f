"""Providers of exits, with the needs and abilities of each, for the language, the compiler, the agent and the lab.

A new provider needs a line in `PROVIDERS` and an adapter in `reconciler/loops/exits/providers/`. If it finds its
gateways by itself, it also needs a twin in `lab/provider/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

ExitSource = Literal["credentials", "gateways", "sites"]
SOURCES: tuple[ExitSource, ...] = ("credentials", "gateways", "sites")
"""Keys of an exit. Each provider needs exactly one of them and rejects the other two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """The properties of a provider that are known without a request to it."""

    name: str
    needs: ExitSource
    discovers: bool
    """Whether it finds its gateways by itself. Otherwise the plan contains them."""
    host_key: bool = False
    """Whether its gateways know the host's own key. Otherwise the agent creates a key for the exit."""
    dns: Literal["provider", "written", "nobody"] = "provider"
    """The source of a gateway's DNS servers if `dns:` does not set them."""
    countries: bool = True
    """Whether gateways can be selected by country."""
    forwards: bool = False
    """Whether it can forward a port to the host."""
    account: str = ""
    """The content of `credentials`, in words; empty if it takes none."""
    dedicated_ip: bool = False
    """Whether an account may have a gateway of its own."""
    pinned: tuple[str, ...] = ()
    """Files on the host that identify the provider."""


PIA = ProviderFacts(
    name="pia",
    needs="credentials",
    discovers=True,
    forwards=True,
    account="`user:password`; on a second line the token of a dedicated IP",
    dedicated_ip=True,
    pinned=("provider-key.pem", "ca.rsa.4096.crt"),
)
MULLVAD = ProviderFacts(name="mullvad", needs="credentials", discovers=True, account="the account's number")
STATIC = ProviderFacts(name="static", needs="gateways", discovers=False, dns="written")
SITE = ProviderFacts(name="site", needs="sites", discovers=False, host_key=True, dns="nobody", countries=False)

PROVIDERS: tuple[ProviderFacts, ...] = (PIA, MULLVAD, STATIC, SITE)


def named(name: str) -> ProviderFacts:
    """The facts of a provider. Raises ValueError for an unknown name."""
    found = next((one for one in PROVIDERS if one.name == name), None)
    if found is None:
        *names, last = (one.name for one in PROVIDERS)
        raise ValueError(f"{name!r} is no provider: write {', '.join(names)} or {last}")
    return found


def _known(name: str) -> str:
    return named(name).name


ProviderName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"enum": [one.name for one in PROVIDERS], "type": "string"})
]
