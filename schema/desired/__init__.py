"""What people write: one file per kind of document, and `Desired`, all of a repository together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from schema.desired.base import Document
from schema.desired.client import Client, Clients
from schema.desired.exits import Exit
from schema.desired.fabric import Fabric, Probe
from schema.desired.gateways import Gateways
from schema.desired.host import Host, Lan, Underlay
from schema.desired.secret import Secret
from schema.desired.site import Aws, Datacenter, Edge, Region, Site
from schema.lock import Entry
from schema.problem import Place
from schema.text import Text

__all__ = [
    "DOCUMENTS", "Aws", "Client", "Clients", "Datacenter", "Desired", "Document", "Edge", "Exit", "Fabric", "Gateways",
    "Host", "Lan", "Located", "Probe", "Region", "Secret", "Site", "Underlay",
]  # fmt: skip

D = TypeVar("D", bound=Document)

DOCUMENTS: dict[str, tuple[str, dict[str, type[Document]]]] = {
    "fabric": ("", {"": Fabric}),
    "site": ("kind", {"edge": Edge, "datacenter": Datacenter, "region": Region}),
    "clients": ("", {"": Clients}),
    "secret": ("", {"": Secret}),
}
"""The first key of a document -> the key that chooses its model, and the models."""


@dataclass(frozen=True, slots=True)
class Located(Generic[D]):
    """A document with the text that it came from."""

    model: D
    text: Text
    prefix: tuple[str | int, ...] = ()

    def place(self, *loc: str | int, key: bool = False) -> Place:
        """Where a value of the document stands."""
        return self.text.place((*self.prefix, *loc), key=key)


@dataclass(slots=True)
class Desired:
    """A whole repository, read and checked file by file, not yet against itself."""

    fabric: Located[Fabric] | None = None
    sites: list[Located[Site]] = field(default_factory=list)
    clients: list[tuple[str, Located[Client]]] = field(default_factory=list)
    keys: dict[str, tuple[Place, str]] = field(default_factory=dict)
    """Host, or HOST.NUMBER -> its public key in base64."""
    recipients: dict[str, tuple[Place, str]] = field(default_factory=dict)
    """Host or `people/NAME` -> whom secrets are encrypted to."""
    secrets: list[Located[Secret]] = field(default_factory=list)
    sealed: dict[str, str] = field(default_factory=dict)
    """Secret -> the digest of its ciphertext."""
    lock: Mapping[Entry, int] = field(default_factory=dict)
