"""Exits: by which VPN gateways the internet is reached, and what makes one of them unfit."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from schema.desired.base import IF_NAME, Document, Duration, Name, OneOrMany, PublicKey, Share, one_of_each_family
from schema.desired.fabric import HostPort, Ip, Url
from schema.duration import seconds
from schema.ip import BITS, Interface
from schema.plan.providers import SOURCES, ProviderFacts, ProviderName, named

SELF = "self"
"""In `for`: what the host itself sends."""
DEV = "dev "
"""In `for`, before an interface that is no LAN of ours: `dev docker0`."""
CHECK = "http://cp.cloudflare.com/generate_204"

Taker = Annotated[str, StringConstraints(pattern=IF_NAME.replace("^", r"^(dev )?", 1))]
Country = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")]
"""ISO 3166, in lower case."""


def _degraded(value: object) -> object:
    """`10x` as ("x", 10.0), `200ms` as ("s", 0.2). Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,3})?)x", value) if isinstance(value, str) else None
    if found:
        if float(found[1]) <= 1:
            raise ValueError(f"{value!r} is no more than the baseline itself: write 10x")
        return ("x", float(found[1]))
    try:
        return ("s", seconds(value))
    except ValueError:
        raise ValueError(f"{value!r} is neither a multiple of the baseline nor a time: write 10x or 200ms") from None


Degraded = Annotated[
    tuple[Literal["x", "s"], float],
    BeforeValidator(_degraded),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(x|ms|s)$", "examples": ["10x", "200ms"]}),
]


def _hosts(values: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """Addresses of this end, one of each family. Raises ValueError."""
    long = [value for value in values if value.length != BITS[value.version]]
    if long:
        raise ValueError(f"{long[0]} is a network: write {long[0].address}")
    return one_of_each_family(values)


class ExitGateway(Document):
    """A WireGuard server that knows the public key of this exit (`gitwan exits key`)."""

    endpoint: HostPort
    public_key: PublicKey
    addresses: Annotated[OneOrMany[Interface], AfterValidator(_hosts), Field(min_length=1)]
    """This end's, within the tunnel. Of a family that is not there nothing passes."""
    dns: OneOrMany[Ip] = ()
    country: Country | None = None


class ExitHealth(Document):
    """When a gateway counts as degraded: probes run through its tunnel."""

    interval: Annotated[Duration, Field(ge=0.2, le=3600.0)] = 10.0
    timeout: Annotated[Duration, Field(ge=0.1, le=60.0)] = 10.0
    """No answer within it is a strike."""
    window: Annotated[int, Field(ge=1, le=100)] = 10
    """Round trips that the weighted mean is made of; each weighs e times less than the one after it."""
    degraded: Degraded = ("x", 10.0)
    """A weighted mean above so many times the baseline, or a round trip above a time, is a strike."""
    strikes: Annotated[int, Field(ge=1, le=100)] = 3
    """So many in a row, and another gateway is chosen."""
    loss: Share = 0.5
    """More of the window than this without an answer is a strike, too."""
    check: Url = CHECK
    """What is asked for through the tunnel: a captive portal answers otherwise."""
    expect: Annotated[int, Field(ge=100, le=599)] = 204
    """The status that proves it."""


class Exit(Document):
    """A way to the internet, and who takes it."""

    provider: ProviderName
    credentials: Name | None = None
    """A secret of the kind `value`: `user:password` for pia, the account's number for mullvad."""
    gateways: dict[Name, ExitGateway] = Field(default_factory=dict)
    """For static."""
    sites: OneOrMany[Name] = ()
    """For site: sites of ours, or hosts. Each of their hosts that this one can dial is a gateway."""
    prefer: OneOrMany[str] = ()
    """Regions or gateways that are taken while one of them is healthy, whatever the latency."""
    ignore: OneOrMany[str] = ()
    """Regions or gateways that are never taken."""
    countries: OneOrMany[Country] = ()
    """Where these are written, no others are taken."""
    use: Annotated[int, Field(ge=1, le=8)] = 1
    """Gateways at once; flows spread over them."""
    health: ExitHealth = ExitHealth()
    hold: Annotated[Duration, Field(ge=0.0, le=86400.0)] = 60.0
    """For so long after a switch there is no other, unless the gateway is dead."""
    cool_down: Annotated[Duration, Field(ge=0.0, le=86400.0)] = 300.0
    """For so long a gateway that failed is not chosen again, unless there is no other."""
    dns: Literal["provider"] | Annotated[OneOrMany[Ip], Field(min_length=1)] = "provider"
    """Who answers the DNS queries of those that take this exit, whomever they ask."""
    port_forward: bool = False
    """Ask the provider for a port that leads here."""
    kill_switch: bool = True
    """Without a gateway nothing leaves; off, it leaves by the underlay."""
    for_: OneOrMany[Taker] | None = Field(default=None, alias="for")
    """LANs of this host, `self`: what it sends itself, and `dev docker0`: what comes in by an interface of others. By
    default all LANs that no other exit names, and `self`."""
    on_switch: Literal["move", "drain"] = "move"
    """What becomes of open flows: they break at once, or stay where they are until they end."""
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    """Of the tunnels; by default what the underlay leaves."""

    @model_validator(mode="after")
    def _fits_its_provider(self) -> Exit:
        facts = self.facts
        for field in SOURCES:
            written = bool(getattr(self, field))
            if facts.needs == field and not written:
                raise ValueError(f"an exit of the provider {facts.name} needs `{field}`")
            if facts.needs != field and written:
                raise ValueError(f"`{field}` means nothing to the provider {facts.name}: remove it")
        if self.countries and not facts.countries:
            hint = "write in `sites` which of them it may be" if facts.needs == "sites" else "remove it"
            raise ValueError(f"`countries` means nothing to the provider {facts.name}: {hint}")
        if self.port_forward and not facts.forwards:
            raise ValueError(f"{facts.name} forwards no ports: remove `port_forward`")
        return self

    @property
    def facts(self) -> ProviderFacts:
        """What its provider needs and can."""
        return named(self.provider)
