"""Exits: the VPN gateways to the internet, and when a gateway counts as degraded."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from schema.desired.base import (
    IF_NAME,
    Document,
    Duration,
    Name,
    OneOrMany,
    PublicKey,
    Share,
    Written,
    one_of_each_family,
)
from schema.desired.fabric import HostPort, Ip, Url
from schema.duration import duration_text, seconds
from schema.ip import BITS, Interface
from schema.plan.providers import SOURCES, ProviderFacts, ProviderName, named

SELF = "self"
"""In `for`: the traffic of the host itself."""
DEV = "dev "
"""In `for`: the prefix of an interface that is not a LAN in the repository, as in `dev docker0`."""
CHECK = "http://cp.cloudflare.com/generate_204"

Taker = Annotated[str, StringConstraints(pattern=IF_NAME.replace("^", r"^(dev )?", 1))]
Country = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")]
"""A country code of ISO 3166 in lower case."""


def _degraded(value: object) -> object:
    """`10x` -> ("x", 10.0), `200ms` -> ("s", 0.2). Raises ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,3})?)x", value) if isinstance(value, str) else None
    if found:
        if float(found[1]) <= 1:
            raise ValueError(f"{value!r} is no more than the baseline itself: write 10x")
        return ("x", float(found[1]))
    try:
        return ("s", seconds(value))
    except ValueError:
        raise ValueError(f"{value!r} is neither a multiple of the baseline nor a time: write 10x or 200ms") from None


def _degraded_text(value: tuple[str, float]) -> str:
    unit, number = value
    return f"{number:g}x" if unit == "x" else duration_text(number)


Degraded = Annotated[
    tuple[Literal["x", "s"], float],
    BeforeValidator(_degraded),
    Written(_degraded_text),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(x|ms|s)$", "examples": ["10x", "200ms"]}),
]


def _hosts(values: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """The same addresses. Raises ValueError for a network, or for two addresses of one family."""
    long = [value for value in values if value.length != BITS[value.version]]
    if long:
        raise ValueError(f"{long[0]} is a network: write {long[0].address}")
    return one_of_each_family(values)


class ExitGateway(Document):
    """A WireGuard server that knows the public key of this exit. `gitwan exits key` prints the key."""

    endpoint: HostPort
    """The server listens at this address and UDP port, such as 203.0.113.5:51820. A DNS name may replace the
    address."""
    public_key: PublicKey
    """This is the WireGuard public key of the server: 44 characters of base64."""
    addresses: Annotated[OneOrMany[Interface], AfterValidator(_hosts), Field(min_length=1)]
    """The host has these addresses in the tunnel, at most one of each family. A family without an address is
    blocked."""
    dns: OneOrMany[Ip] = ()
    """DNS queries go to the first of these servers of each address family. The exit's own `dns` has precedence."""
    country: Country | None = None
    """The gateway is in this country, written as a code of ISO 3166 in lower case. `countries` selects by it."""


class ExitHealth(Document):
    """These settings decide when a gateway counts as degraded. Probes run through its tunnel."""

    interval: Annotated[Duration, Field(ge=0.2, le=3600.0)] = 10.0
    """The agent probes the gateway at this interval, from 200ms to 1h."""
    timeout: Annotated[Duration, Field(ge=0.1, le=60.0)] = 10.0
    """A probe without an answer within this time is a strike. The time is from 100ms to 60s."""
    window: Annotated[int, Field(ge=1, le=100)] = 10
    """The weighted mean covers this number of round trips. Each weighs e times less than the next newer one."""
    degraded: Degraded = ("x", 10.0)
    """`10x`: a weighted mean above 10 times the baseline is a strike. `200ms`: a round trip above 200 ms is a
    strike."""
    strikes: Annotated[int, Field(ge=1, le=100)] = 3
    """After this number of strikes in a row the exit changes to another gateway."""
    loss: Share = 0.5
    """If a larger share of the probes in the window has no answer, that is a strike, too."""
    check: Url = CHECK
    """Probes fetch this URL through the tunnel. It must give the status of `expect`."""
    expect: Annotated[int, Field(ge=100, le=599)] = 204
    """A gateway works if the URL of `check` gives this HTTP status. A captive portal gives another one."""


class Exit(Document):
    """An exit sends traffic to the internet through VPN gateways."""

    provider: ProviderName
    """`pia` and `mullvad` are VPN providers, `static` is a list of gateways, `site` means hosts of this network."""
    credentials: Name | None = None
    """This names a secret of kind `value`. It contains `user:password` for pia, the account number for mullvad."""
    gateways: dict[Name, ExitGateway] = Field(default_factory=dict)
    """These are the gateways of an exit with `provider: static`, by name."""
    sites: OneOrMany[Name] = ()
    """Hosts of these sites, or these hosts, are the gateways of an exit with `provider: site`. This host must be able
    to dial them."""
    prefer: OneOrMany[str] = ()
    """The exit uses these regions, sites or gateways while one of them is healthy, whatever its latency."""
    ignore: OneOrMany[str] = ()
    """The exit never uses these regions, sites or gateways."""
    countries: OneOrMany[Country] = ()
    """The exit uses gateways in these countries only (codes of ISO 3166 in lower case). By default all are allowed."""
    use: Annotated[int, Field(ge=1, le=8)] = 1
    """The exit uses this number of gateways at once. Flows are spread over them."""
    health: ExitHealth = ExitHealth()
    """These settings decide when a gateway of the exit counts as degraded."""
    hold: Annotated[Duration, Field(ge=0.0, le=86400.0)] = 60.0
    """Two switches of gateways are at least this time apart, unless the gateway is dead. The time is from 0s to 24h."""
    cool_down: Annotated[Duration, Field(ge=0.0, le=86400.0)] = 300.0
    """A gateway that failed is not used again for this time, unless there is no other. The time is from 0s to 24h."""
    dns: Literal["provider"] | Annotated[OneOrMany[Ip], Field(min_length=1)] = "provider"
    """All DNS queries through this exit go to these servers, or to those of the provider, whatever server they name."""
    port_forward: bool = False
    """If true, the agent asks the provider for a forwarded port. Only pia has one. The host itself must take the
    exit."""
    kill_switch: bool = True
    """If true, traffic is blocked while the exit has no gateway. If false, it leaves by the underlay."""
    for_: OneOrMany[Taker] | None = Field(default=None, alias="for")
    """The exit carries the traffic of these LANs of the host. `self` is the traffic of the host itself, `dev docker0`
    that of an interface that is not a LAN. By default these are `self` and all LANs that no other exit names."""
    on_switch: Literal["move", "drain"] = "move"
    """`move`: open flows break when the gateway changes. `drain`: they stay on the old tunnel until they end."""
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    """This is the MTU of the tunnels in bytes. By default it is that of the underlay minus 80 (with `provider: site`,
    of the smaller one of both ends)."""

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
        """The needs and abilities of its provider."""
        return named(self.provider)
