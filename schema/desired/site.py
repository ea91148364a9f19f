"""A site: a home edge, a data centre, or an AWS region. One file per site; it holds all that is only about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schema.desired.base import Document, Name, OneOrMany
from schema.desired.gateways import Gateways
from schema.desired.host import Hosts, Short
from schema.ip import Prefix


class Edge(Document):
    """A home or branch: usually behind a provider's NAT."""

    site: Name
    kind: Literal["edge"]
    hosts: Hosts
    short: Short | None = None
    gateways: Gateways | None = None
    """Hosts that stand in for each other; without it the first host by name is the site's gateway."""


class Datacenter(Document):
    """A data centre."""

    site: Name
    kind: Literal["datacenter"]
    hosts: Hosts
    short: Short | None = None
    gateways: Gateways | None = None
    """Hosts that stand in for each other; without it the first host by name is the site's gateway."""


class Aws(Document):
    """The VPC that a region's gateways stand in."""

    region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    vpc: Annotated[str, StringConstraints(pattern=r"^vpc-[0-9a-f]+$")]
    cidr: OneOrMany[Prefix]
    """Its networks, IPv4 and IPv6."""


class Region(Document):
    """An AWS region with its gateways."""

    site: Name
    kind: Literal["region"]
    aws: Aws
    hosts: Hosts
    short: Short | None = None


Site = Annotated[Edge | Datacenter | Region, Field(discriminator="kind")]
