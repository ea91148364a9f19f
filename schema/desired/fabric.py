"""`fabric.yaml`: the network's name, its pools of addresses, its defaults, and the links between sites."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from schema.desired.base import DnsName, Document, Duration, Keepalive, Name, OneOrMany, Share
from schema.ip import Interface, Prefix, parse_address
from schema.plan.marks import DEFAULT, Marks


def _ip(value: object) -> str:
    """An address in canonical text. Raises ValueError for a network or anything else."""
    if not isinstance(value, str) or "/" in value:
        raise ValueError(f"{value!r} is not an address: write 10.20.0.100 or fd00:20::100")
    return Interface.parse(value).address


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def _url(url: str) -> str:
    """A URL whose server can be asked. Raises ValueError: libraries do so only when they are to ask it."""
    server = re.split("[/?#]", url.partition("://")[2])[0]
    strange = next((character for character in url if not "!" <= character <= "~"), "")
    if strange and strange in server:
        raise ValueError(f"{strange!r} stands in no name of DNS: write the name as DNS has it (xn--…)")
    if strange:
        encoded = "".join(f"%{byte:02X}" for byte in strange.encode(errors="replace"))
        raise ValueError(f"{strange!r} stands in no URL: write {encoded}")
    found = re.fullmatch(r"(\[[^][]*\]|[^][:]*)(?::([^][:]*))?", server)
    if found is None:
        raise ValueError(f"{server!r} is no server: write a name, 192.0.2.1 or [2001:db8::1], and perhaps :8080")
    host, port = found[1], found[2]
    if port is not None and not (re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is no port: write a number from 1 to 65535, or leave it out with its colon")
    if host.startswith("[") or re.fullmatch(r"(.*\.)?\d+", host):
        _numeric(host)
    elif len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError(f"{host!r} is no name of a server: write one such as check.example.org")
    return url


def _numeric(host: str) -> None:
    """Raises ValueError."""
    wanted, example = (6, "[2001:db8::1]") if host.startswith("[") else (4, "192.0.2.1")
    try:
        version = parse_address(host.strip("[]"))[0]
    except ValueError:
        version = 0
    if version != wanted:
        raise ValueError(f"{host!r} is no address: write it as {example}, or write a name")


Ip = Annotated[str, BeforeValidator(_ip)]
HostPort = Annotated[
    str,
    StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[1-9]\d{0,4}$"),
    Field(examples=["10.1.0.10:443"]),
]
Url = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/@]+(/\S*)?$"),
    AfterValidator(_url),
    Field(examples=["http://10.1.0.10/health"]),
]
Port = Annotated[int, Field(ge=1, le=65535)]


class Pools(Document):
    """Where the addresses that nobody wrote come from, each for one or both families."""

    links: tuple[Prefix, ...] = (Prefix.parse("10.255.0.0/16"), Prefix.parse("fd00:255::/48"))
    """Each host's own address on all of its tunnels."""
    backbone: tuple[Prefix, ...] = (Prefix.parse("10.50.0.0/24"), Prefix.parse("fd00:50::/64"))
    """The same for the gateways of the backbone."""
    clients: tuple[Prefix, ...] = (Prefix.parse("10.51.0.0/16"), Prefix.parse("fd00:51::/64"))
    """Roaming clients."""
    exits: tuple[Prefix, ...] = (Prefix.parse("10.52.0.0/16"), Prefix.parse("fd00:52::/64"))
    """Exits by sites of ours: a host's address at all gateways of one. Nobody else has a route there."""


class Ports(Document):
    """UDP ports on which WireGuard listens unless a link says otherwise."""

    links: Port = 5000
    """The first one; each tunnel of a host takes the next that is free."""
    backbone: Port = 51821
    clients: Port = 51820


class Health(Document):
    """When a tunnel counts as dead, and when it is back: probes run inside each of a link's tunnels."""

    interval: Annotated[Duration, Field(ge=0.1, le=60.0)] = 0.2
    """Between two probes, from 100ms."""
    misses: Annotated[int, Field(ge=2, le=100)] = 3
    """Probes in a row without an answer."""
    loss: Share = 0.2
    """Of the last 50 probes. A tunnel that loses more carries nothing where there is a better one."""
    hold: Annotated[Duration, Field(ge=0.0, le=3600.0)] = 10.0
    """For so long a tunnel has to be well again before it is used; twice as long after each relapse."""


class Defaults(Document):
    """What a link takes when it does not say so itself."""

    keepalive: Keepalive = 10.0
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    """MTU of tunnels; by default what the underlays of both ends leave: 1420 on 1500."""
    ports: Ports = Ports()
    health: Health = Health()
    flow_hash: Literal["l4", "inner"] = "l4"
    """What spreads flows over tunnels: addresses and ports, or with `inner` also those within GRE, IPIP and VXLAN
    packets (Linux 5.12)."""


class Link(Document):
    """A link between two sites (or two hosts), made of one or more WireGuard tunnels."""

    between: tuple[Name, Name]
    """Two names of sites or hosts; a site stands for its first host by name."""
    tunnels: int = Field(default=1, ge=1, le=256)
    keepalive: Keepalive | None = None
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    ports: dict[Name, tuple[Port, ...]] = Field(default_factory=dict)
    """Listening ports by end, one for each tunnel, where they are fixed."""
    weights: tuple[Annotated[int, Field(ge=1, le=256)], ...] = ()
    """The share of flows of each tunnel; by default all have the same."""
    health: Health | None = None
    """What differs from `defaults.health`."""
    psk: Name | None = None
    """A secret of the kind `psk`: a preshared key, for all of its tunnels."""


def _marks(value: object) -> object:
    """`0x55/0xff`: a value and its mask. Raises ValueError."""
    found = re.fullmatch(r"(0x[0-9a-fA-F]{1,8})/(0x[0-9a-fA-F]{1,8})", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is no mark with its mask: write {DEFAULT}")
    mark, mask = int(found[1], 16), int(found[2], 16)
    if not mark or mark & ~mask:
        raise ValueError(f"{found[1]} is not a part of the mask {found[2]}, or none at all: write {DEFAULT}")
    return Marks(value=mark, mask=mask)


MarksText = Annotated[
    Marks,
    BeforeValidator(_marks),
    WithJsonSchema(
        {"type": "string", "pattern": "^0x[0-9a-fA-F]{1,8}/0x[0-9a-fA-F]{1,8}$", "examples": [str(DEFAULT)]}
    ),
]


class Deny(Document):
    """New connections from one site or client to another are refused; all else may pass."""

    from_: Name = Field(alias="from")
    to: Name


class Probe(Document):
    """Something that has to answer after a change if it answered before it: exactly one of the first four."""

    ping: Ip | None = None
    """An address."""
    tcp: HostPort | None = None
    """`address:port`, `[address]:port` or `name:port`."""
    http: Url | None = None
    """A URL that has to give a status below 400."""
    dns: DnsName | None = None
    """A name that has to resolve."""
    server: Ip | None = None
    """For `dns`: the server to ask; the host's own resolver where there is none."""
    from_: OneOrMany[Name] = Field(default=(), alias="from")
    """Sites or hosts that probe; all where there are none."""

    @model_validator(mode="after")
    def _one_kind(self) -> Probe:
        if sum(value is not None for value in (self.ping, self.tcp, self.http, self.dns)) != 1:
            raise ValueError("a probe has one of `ping`, `tcp`, `http` and `dns`")
        if self.server and not self.dns:
            raise ValueError("`server` goes with `dns` only")
        return self


class Fabric(Document):
    """`fabric.yaml`, once in a repository."""

    fabric: Name
    version: Literal[1]
    pools: Pools = Pools()
    defaults: Defaults = Defaults()
    links: tuple[Link, ...] = ()
    backbone: tuple[Name, ...] = ()
    """Sites or hosts that are meshed with one another over one device each."""
    clients_key: Name | None = None
    """A secret of the kind `key` that all gateways of roaming clients share; by default each has its host's own."""
    deny: tuple[Deny, ...] = ()
    marks: MarksText = Field(default=DEFAULT, json_schema_extra={"default": str(DEFAULT)})
    """What marks packets and flows on hosts with exits, `VALUE/MASK`: the bits outside of the mask are others'."""
    deadline: Annotated[Duration, Field(ge=5.0, le=3600.0)] | None = None
    """How long a host tries a change before it goes back to the last confirmed plan: 60s."""
    probes: tuple[Probe, ...] = ()
    """What has to answer after a change, beside the default gateway, the git server and every tunnel."""
