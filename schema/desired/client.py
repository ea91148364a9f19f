"""Roaming clients: peers without an agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schema.desired.base import Document, Name, PublicKey
from schema.ip import Interface


class Client(Document):
    """One roaming peer: a laptop, a phone, a call server."""

    public_key: PublicKey
    gateway: Name
    """The site or host that it connects to."""
    addresses: tuple[Interface, ...] = ()
    """Out of the pool of clients; by default the lock chooses."""


class Clients(Document):
    """`clients/*.yaml`: as many files as are convenient."""

    clients: Annotated[dict[Name, Client], Field(min_length=1)]
