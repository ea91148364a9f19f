"""What all resources share: frozen models with a key, a rank, a one-line description and a cost of change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints

Family = Literal["inet", "inet6"]
IfName = Annotated[str, StringConstraints(pattern=r"^[^\s/:]{1,15}$")]
"""An interface name; the kernel's IFNAMSIZ leaves 15 bytes."""
Prefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]+/\d{1,3}$")]
"""A network in canonical text, as `ip` and `inet_ntop` print it, always with its length."""
Address = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]+$")]
"""A host address in canonical text."""
PublicKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
"""A WireGuard key in base64; the last character carries four bits, so only 16 characters can stand there."""


class Disruption(IntEnum):
    """What a change costs the traffic that is running, from nothing to everything."""

    NONE = 0
    REORDERS = 1
    RESETS = 2
    DROPS = 3

    @property
    def text(self) -> str:
        return ("none", "reorders flows", "resets sessions", "drops the link")[self]


class Model(BaseModel):
    """A frozen model that refuses what it does not know. Fields added later default to None (see `canonical`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(Model):
    """A secret by its name, beside a comparable fingerprint. The value itself never stands in a plan.

    The fingerprint of a private key is its public key; of anything else what was stored when it was added.
    """

    secret: str
    fingerprint: str


Key = tuple[str | int, ...]


class Resource(Model, ABC):
    """One thing that a host's kernel should hold. Two resources of a kind with one key are the same thing."""

    rank: ClassVar[int]
    """Creates and changes run in ascending rank, deletes in descending."""

    kind: str

    @property
    @abstractmethod
    def key(self) -> Key:
        """What identifies this resource among its kind on one host; comparable with others of the kind."""

    @property
    def label(self) -> str:
        """The resource in as few words as tell it from its like."""
        return " ".join(map(str, self.key))

    @abstractmethod
    def describe(self) -> str:
        """The resource in one line, in the words of `ip` and `wg`, for diffs and logs."""

    @property
    def exclusive(self) -> Key | None:
        """What only one resource may hold at a time: its old holder is changed or deleted first."""
        return None

    def amended(self, gain: tuple[Any, ...], lose: tuple[Any, ...]) -> Self:
        """This resource with more or less of what it is a list of. Raises TypeError where it is a list of nothing."""
        raise TypeError(f"a {self.kind} has nothing to gain or lose")

    @classmethod
    def disruption(cls, before: Self | None, after: Self | None) -> Disruption:
        """What going from `before` (None: create) to `after` (None: delete) costs running traffic."""
        return Disruption.NONE

    @classmethod
    def cost(cls, before: Self | None, after: Self | None) -> str:
        """The disruption in words, as exactly as it can be said."""
        return cls.disruption(before, after).text


def family_of(address: str) -> Family:
    """The family of an address or prefix in text."""
    return "inet6" if ":" in address else "inet"
