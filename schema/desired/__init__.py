"""What people write: a module for each kind of document, and `Documents`, which holds all documents of a repository."""

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
    "DOCUMENTS",
    "Aws",
    "Client",
    "Clients",
    "Datacenter",
    "Document",
    "Documents",
    "Edge",
    "Exit",
    "Fabric",
    "Gateways",
    "Host",
    "Lan",
    "Located",
    "Probe",
    "Region",
    "Secret",
    "Site",
    "Underlay",
]  # fmt: skip

D = TypeVar("D", bound=Document)

DOCUMENTS: dict[str, tuple[str, dict[str, type[Document]]]] = {
    "fabric": ("", {"": Fabric}),
    "site": ("kind", {"edge": Edge, "datacenter": Datacenter, "region": Region}),
    "clients": ("", {"": Clients}),
    "secret": ("", {"": Secret}),
}
"""First key of a document -> (key whose value selects the model, models by that value). An empty key: one model."""


@dataclass(frozen=True, slots=True)
class Located(Generic[D]):
    """A document and the text that it was read from."""

    model: D
    text: Text
    prefix: tuple[str | int, ...] = ()

    def place(self, *loc: str | int, key: bool = False) -> Place:
        """The position of a value in its file; of the value's key if `key`."""
        return self.text.place((*self.prefix, *loc), key=key)


@dataclass(slots=True)
class Documents:
    """A whole repository. Each file is valid by itself; references between files are not checked yet."""

    fabric: Located[Fabric] | None = None
    sites: list[Located[Site]] = field(default_factory=list)
    clients: list[tuple[str, Located[Client]]] = field(default_factory=list)
    keys: dict[str, tuple[Place, str]] = field(default_factory=dict)
    """HOST or HOST.NUMBER -> place and public key in base64."""
    recipients: dict[str, tuple[Place, str]] = field(default_factory=dict)
    """HOST or `people/NAME` -> place and recipient (age or SSH), to which secrets are encrypted."""
    secrets: list[Located[Secret]] = field(default_factory=list)
    sealed: dict[str, str] = field(default_factory=dict)
    """Name of a secret -> digest of its ciphertext."""
    lock: Mapping[Entry, int] = field(default_factory=dict)
