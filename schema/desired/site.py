"""A site: an edge, a data centre or an AWS region. Each site has a file of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schema.desired.base import Document, Name, OneOrMany
from schema.desired.gateways import Gateways
from schema.desired.host import Hosts, Short
from schema.ip import Prefix


class Edge(Document):
    """An edge is a home or a branch, usually behind the NAT of its provider."""

    site: Name
    """This is the name of the site. It is unique among all sites, hosts and clients."""
    kind: Literal["edge"]
    """An `edge` is a home or a branch, usually behind NAT."""
    hosts: Hosts
    """The hosts of the site by name. A name is unique among all sites, hosts and clients."""
    short: Short | None = None
    """Interface names of tunnels contain this short name if the site has one host. They have at most 15 bytes."""
    gateways: Gateways | None = None
    """These hosts are redundant gateways. Without this key the first host by name is the site's only gateway."""


class Datacenter(Document):
    """A data centre with one or more hosts."""

    site: Name
    """This is the name of the site. It is unique among all sites, hosts and clients."""
    kind: Literal["datacenter"]
    """A `datacenter` has hosts with addresses of their own."""
    hosts: Hosts
    """The hosts of the site by name. A name is unique among all sites, hosts and clients."""
    short: Short | None = None
    """Interface names of tunnels contain this short name if the site has one host. They have at most 15 bytes."""
    gateways: Gateways | None = None
    """These hosts are redundant gateways. Without this key the first host by name is the site's only gateway."""


class Aws(Document):
    """The VPC of a region."""

    region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    """This is the AWS name of the region, such as eu-west-1."""
    vpc: Annotated[str, StringConstraints(pattern=r"^vpc-[0-9a-f]+$")]
    """This is the ID of the VPC, such as vpc-0aa11."""
    cidr: OneOrMany[Prefix]
    """These are the networks of the VPC, IPv4 and IPv6."""


class Region(Document):
    """A region is an AWS region with one VPC and one or more hosts in it."""

    site: Name
    """This is the name of the site. It is unique among all sites, hosts and clients."""
    kind: Literal["region"]
    """A `region` is an AWS region."""
    aws: Aws
    """The hosts of the region are in this VPC."""
    hosts: Hosts
    """The hosts of the site by name. A name is unique among all sites, hosts and clients."""
    short: Short | None = None
    """Interface names of tunnels contain this short name if the site has one host. They have at most 15 bytes."""


Site = Annotated[Edge | Datacenter | Region, Field(discriminator="kind")]
