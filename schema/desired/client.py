"""Roaming clients: peers without an agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from schema.desired.base import Document, Name, PublicKey, one_of_each_family
from schema.ip import Interface


class Client(Document):
    """One roaming peer: a laptop, a phone, a call server."""

    public_key: PublicKey
    gateway: Name
    """The site or host that it connects to."""
    addresses: Annotated[tuple[Interface, ...], AfterValidator(one_of_each_family)] = ()
    """Out of the pool of clients; by default the lock chooses."""


class Clients(Document):
    """`clients/*.yaml`: as many files as are convenient."""

    clients: Annotated[dict[Name, Client], Field(min_length=1)]
