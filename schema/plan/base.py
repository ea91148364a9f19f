"""Common parts of all resources: frozen models with a key, a rank, a one-line description and a disruption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints

Family = Literal["inet", "inet6"]
KernelIfName = Annotated[str, StringConstraints(pattern=r"^[^\s/:]{1,15}$")]
"""An interface name. The kernel's IFNAMSIZ allows 15 bytes."""
PrefixText = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]+/\d{1,3}$")]
"""A network in canonical text, as `ip` and `inet_ntop` print it, always with its prefix length."""
AddressText = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]+$")]
"""A host address in canonical text."""
PublicKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
"""A WireGuard key in base64. The last character encodes four bits, so only 16 characters are valid there."""


class Disruption(IntEnum):
    """How a change disrupts running traffic, from nothing to everything."""

    NONE = 0
    REORDERS = 1
    RESETS = 2
    DROPS = 3

    @property
    def text(self) -> str:
        return ("none", "reorders flows", "resets sessions", "drops the link")[self]


class Model(BaseModel):
    """A frozen model that rejects unknown keys. Fields that are added later default to None (see `canonical`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(Model):
    """A reference to a secret: its name and a fingerprint for comparison. A plan never contains the value itself.

    The fingerprint of a private key is its public key. For any other secret it is the fingerprint that was stored when
    the secret was added.
    """

    secret: str
    fingerprint: str


Key = tuple[str | int, ...]


class Resource(Model, ABC):
    """An object that a host's kernel should have. Two resources with the same kind and key are the same object."""

    rank: ClassVar[int]
    """Creations and changes run in ascending order of rank, deletions in descending order."""

    kind: str

    @property
    @abstractmethod
    def key(self) -> Key:
        """Identifies this resource among its kind on one host. Keys of one kind are comparable."""

    @property
    def label(self) -> str:
        """The shortest text that distinguishes this resource from others of its kind."""
        return " ".join(map(str, self.key))

    @abstractmethod
    def describe(self) -> str:
        """The resource in one line, in the terms of `ip` and `wg`, for diffs and logs."""

    @property
    def exclusive(self) -> Key | None:
        """A key that only one resource can hold at a time. The old holder is changed or deleted before the new one."""
        return None

    def amended(self, gain: tuple[Any, ...], lose: tuple[Any, ...]) -> Self:
        """This resource with entries added to and removed from its list. Raises TypeError if the kind has no list."""
        raise TypeError(f"a {self.kind} has nothing to gain or lose")

    @classmethod
    def disruption(cls, before: Self | None, after: Self | None) -> Disruption:
        """How a change from `before` (None: create) to `after` (None: delete) disrupts running traffic."""
        return Disruption.NONE

    @classmethod
    def cost(cls, before: Self | None, after: Self | None) -> str:
        """The disruption in words, as precisely as possible."""
        return cls.disruption(before, after).text


def family_of(address: str) -> Family:
    """The address family of an address or prefix in text."""
    return "inet6" if ":" in address else "inet"
