"""Roaming clients: WireGuard peers without an agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from schema.desired.base import Document, Name, PublicKey, one_of_each_family
from schema.ip import Interface


class Client(Document):
    """A roaming client is a machine without an agent, such as a laptop, a phone or a call server."""

    public_key: PublicKey
    """The WireGuard public key of the client: 44 characters of base64. `wg pubkey` prints it."""
    gateway: Name
    """The client connects to this site or host."""
    addresses: Annotated[tuple[Interface, ...], AfterValidator(one_of_each_family)] = ()
    """The client has these addresses, at most one of each family. They belong to `pools.clients`. By default `gitwan
    lock` chooses them."""


class Clients(Document):
    """A file of roaming clients. A repository may have any number of such files."""

    clients: Annotated[dict[Name, Client], Field(min_length=1)]
    """Each roaming client has a name, which is unique among all sites, hosts and clients."""
