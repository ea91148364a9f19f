"""Providers of exits, and what each of them needs and can; language, compiler, agent and lab read it here.

A new one is a line in `PROVIDERS`, an adapter in `reconciler/loops/exits/providers/` and, where it finds its gateways
by itself, a twin in `lab/provider/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

Source = Literal["credentials", "gateways", "sites"]
SOURCES: tuple[Source, ...] = ("credentials", "gateways", "sites")
"""The keys of an exit of which each provider needs one, and to which the other two mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """All that is known of a provider without asking it."""

    name: str
    needs: Source
    discovers: bool
    """Whether it finds its gateways by itself; else the plan has them."""
    host_key: bool = False
    """Whether its gateways know the host by its own key; else the agent makes a key for the exit."""
    dns: Literal["provider", "written", "nobody"] = "provider"
    """Where the DNS servers of a gateway are known from, unless `dns:` says them."""
    countries: bool = True
    """Whether gateways can be chosen by country."""
    forwards: bool = False
    """Whether it can give a port that leads here."""
    account: str = ""
    """What `credentials` opens to, in words; empty where it takes none."""
    dedicated_ip: bool = False
    """Whether an account may have one gateway of its own."""
    pinned: tuple[str, ...] = ()
    """Files on the host by which it is known."""


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
    """A provider by its name. Raises ValueError."""
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
