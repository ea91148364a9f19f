"""`fabric.yaml`: the name of the network, its address pools, its defaults, and the links between sites."""

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
from schema.duration import duration_text
from schema.ip import Interface, Prefix, parse_address
from schema.plan.marks import DEFAULT, Marks
from schema.plan.runtime import DEADLINE


def _ip(value: object) -> str:
    """An address in canonical text. Raises ValueError for anything else, including a network."""
    if not isinstance(value, str) or "/" in value:
        raise ValueError(f"{value!r} is not an address: write 10.20.0.100 or fd00:20::100")
    return Interface.parse(value).address


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def _url(url: str) -> str:
    """The same URL. Raises ValueError for an invalid server; HTTP libraries check it only when they connect."""
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
    """Raises ValueError unless `host` is an IPv4 address, or an IPv6 address in brackets."""
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
    """`gitwan lock` allocates addresses from these pools. A pool has networks of one or both address families."""

    links: tuple[Prefix, ...] = (Prefix.parse("10.255.0.0/16"), Prefix.parse("fd00:255::/48"))
    """Each host has one address of each family from this pool, the same on all of its tunnels."""
    backbone: tuple[Prefix, ...] = (Prefix.parse("10.50.0.0/24"), Prefix.parse("fd00:50::/64"))
    """Each member of the backbone has one address of each family from this pool, in place of `links`."""
    clients: tuple[Prefix, ...] = (Prefix.parse("10.51.0.0/16"), Prefix.parse("fd00:51::/64"))
    """Each roaming client has one address of each family from this pool."""
    exits: tuple[Prefix, ...] = (Prefix.parse("10.52.0.0/16"), Prefix.parse("fd00:52::/64"))
    """Each exit with `provider: site` has one address of each family from this pool, the same at all of its
    gateways."""


class Ports(Document):
    """WireGuard listens on these UDP ports unless a link or a host has its own `ports`."""

    links: Port = 5000
    """The first tunnel of a host listens on this UDP port. Each further tunnel takes the next free one."""
    backbone: Port = 51821
    """The backbone device of a host listens on this UDP port."""
    clients: Port = 51820
    """The device for roaming clients listens on this UDP port."""


class Health(Document):
    """These settings decide when a tunnel counts as dead and when it is used again. Probes run inside each tunnel."""

    interval: Annotated[Duration, Field(ge=0.1, le=60.0)] = 0.2
    """The agent probes each tunnel at this interval, from 100ms to 60s."""
    misses: Annotated[int, Field(ge=2, le=100)] = 3
    """A tunnel is dead after this number of probes in a row without an answer."""
    loss: Share = 0.2
    """A tunnel is dead if it loses a larger share of the last 50 probes. It recovers at half of this share."""
    hold: Annotated[Duration, Field(ge=0.0, le=3600.0)] = 10.0
    """A dead tunnel must answer for this time before it carries traffic again, from 0s to 1h. Each relapse doubles
    it."""


class Defaults(Document):
    """A link without settings of its own uses these defaults."""

    keepalive: Keepalive = 10.0
    """WireGuard sends a keepalive at this interval, in whole seconds up to 65535s. `0s` sends none."""
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    """This is the MTU of tunnels in bytes. By default it follows from the underlays of both ends: 1420 for 1500."""
    ports: Ports = Ports()
    """WireGuard listens on these UDP ports."""
    health: Health = Health()
    """These settings decide when a tunnel counts as dead and when it is used again."""
    flow_hash: Literal["l4", "inner"] = "l4"
    """`l4` spreads flows over tunnels by addresses and ports. `inner` also hashes those inside GRE, IPIP and VXLAN
    packets and needs Linux 5.12."""


class Link(Document):
    """A link connects two sites or hosts by one or more WireGuard tunnels."""

    between: tuple[Name, Name]
    """The link connects these two sites or hosts. A site means all of its `gateways`, or its first host by name."""
    tunnels: int = Field(default=1, ge=1, le=256)
    """The link has this number of WireGuard tunnels. Flows are spread over them."""
    keepalive: Keepalive | None = None
    """WireGuard sends a keepalive at this interval, in whole seconds. By default `defaults.keepalive` applies."""
    mtu: int | None = Field(default=None, ge=1280, le=65535)
    """This is the MTU of the link's tunnels in bytes. By default `defaults.mtu` applies."""
    ports: dict[Name, tuple[Port, ...]] = Field(default_factory=dict)
    """End of the link -> fixed UDP ports, one for each tunnel. By default `gitwan lock` chooses the ports."""
    weights: tuple[Annotated[int, Field(ge=1, le=256)], ...] = ()
    """Each tunnel gets flows in proportion to its weight. By default all tunnels have the same weight."""
    health: Health | None = None
    """These settings replace those of `defaults.health` for this link, one by one."""
    psk: Name | None = None
    """This names a secret of kind `psk`, a preshared key for all tunnels of the link. By default there is none."""


def _marks(value: object) -> object:
    """`0x55/0xff` -> value and mask. Raises ValueError for anything else."""
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
    """Hosts refuse new connections from one site or client to another. Everything else is allowed."""

    from_: Name = Field(alias="from")
    """Connections from this site or client are refused."""
    to: Name
    """Connections to this site or client are refused."""


class Probe(Document):
    """A target that answered before a change must answer after it. Write one of `ping`, `tcp`, `http` and `dns`."""

    ping: Ip | None = None
    """This address must answer a ping."""
    tcp: HostPort | None = None
    """A TCP connection to `address:port`, `[address]:port` or `name:port` must succeed."""
    http: Url | None = None
    """This URL must give an HTTP status below 400."""
    dns: DnsName | None = None
    """This DNS name must resolve."""
    server: Ip | None = None
    """The query of `dns` goes to this server. By default it goes to the host's own resolver."""
    from_: OneOrMany[Name] = Field(default=(), alias="from")
    """Only these sites or hosts run the probe. By default all hosts do."""

    @model_validator(mode="after")
    def _one_kind(self) -> Probe:
        if sum(value is not None for value in (self.ping, self.tcp, self.http, self.dns)) != 1:
            raise ValueError("a probe has one of `ping`, `tcp`, `http` and `dns`")
        if self.server and not self.dns:
            raise ValueError("`server` goes with `dns` only")
        return self


class Fabric(Document):
    """The fabric is the whole network. A repository has exactly one document of this kind, usually `fabric.yaml`."""

    fabric: Name
    """This is the name of the network."""
    version: Literal[1]
    """This is the version of the language. It is always 1."""
    pools: Pools = Pools()
    """`gitwan lock` allocates addresses from these pools."""
    defaults: Defaults = Defaults()
    """Links without settings of their own use these defaults."""
    links: tuple[Link, ...] = ()
    """Each link connects two sites or hosts by one or more WireGuard tunnels."""
    backbone: tuple[Name, ...] = ()
    """These sites or hosts form a full mesh. Each has one WireGuard device for all of its peers in the mesh."""
    clients_key: Name | None = None
    """This names a secret of kind `key`, a private key that all gateways of roaming clients share. By default each uses
    the key of its host."""
    deny: tuple[Deny, ...] = ()
    """Hosts refuse these connections. Everything else is allowed."""
    marks: MarksText = DEFAULT
    """gitwan marks packets and flows on hosts with exits by these bits, written `VALUE/MASK`. It leaves all other bits
    unchanged."""
    deadline: Annotated[Duration, Field(ge=5.0, le=3600.0)] | None = Field(
        default=None, json_schema_extra={"default": duration_text(DEADLINE)}
    )
    """A host tries a change for this time before it goes back to the last confirmed plan, from 5s to 1h."""
    probes: tuple[Probe, ...] = ()
    """These targets must answer after a change if they answered before it. The default gateway, the git server and all
    tunnels are always probed."""
