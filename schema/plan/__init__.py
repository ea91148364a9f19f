"""The plan of a host: `HostPlan`, a tuple of resources. Each kind of resource has its own module.

The plan is the contract between the compiler, which writes it, and the reconciler, which reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from schema.plan.address import Address
from schema.plan.base import Disruption, Key, Model, Resource, SecretRef, family_of
from schema.plan.change import Change, diff
from schema.plan.exits import Exit, ExitSlot, HealthSettings, WrittenGateway
from schema.plan.firewall import Firewall
from schema.plan.link import BondOptions, Link
from schema.plan.marks import Marks
from schema.plan.nexthop import Member, Nexthop, Resilient
from schema.plan.peer import Peer
from schema.plan.ranges import METRIC, PROTOCOL
from schema.plan.route import MAIN_TABLE, Route
from schema.plan.rule import Rule
from schema.plan.runtime import (
    DEADLINE,
    Lost,
    ProbeTarget,
    Rider,
    Runtime,
    Standby,
    Takeover,
    Watch,
    WatchedBond,
    WatchedTunnel,
)
from schema.plan.service import Service, ServiceFile
from schema.plan.sysctl import Sysctl
from schema.plan.wireguard import Wireguard

__all__ = [
    "DEADLINE",
    "MAIN_TABLE",
    "METRIC",
    "PROTOCOL",
    "RESOURCES",
    "Address",
    "AnyResource",
    "BondOptions",
    "Change",
    "Disruption",
    "Exit",
    "ExitSlot",
    "Firewall",
    "HealthSettings",
    "HostPlan",
    "Key",
    "Link",
    "Lost",
    "Marks",
    "Member",
    "Model",
    "Nexthop",
    "Peer",
    "ProbeTarget",
    "Resilient",
    "Resource",
    "Rider",
    "Route",
    "Rule",
    "Runtime",
    "SecretRef",
    "Service",
    "ServiceFile",
    "Standby",
    "Sysctl",
    "Takeover",
    "Watch",
    "WatchedBond",
    "WatchedTunnel",
    "Wireguard",
    "WrittenGateway",
    "diff",
    "family_of",
    "take_resources",
]  # fmt: skip

AnyResource = Annotated[
    Address | Firewall | Link | Nexthop | Peer | Route | Rule | Service | Sysctl | Wireguard,
    Field(discriminator="kind"),
]
RESOURCES: dict[str, type[Resource]] = {
    "firewall": Firewall, "link": Link, "sysctl": Sysctl, "wireguard": Wireguard, "address": Address, "peer": Peer,
    "nexthop": Nexthop, "route": Route, "rule": Rule, "service": Service,
}  # fmt: skip
"""All kinds, in the order of their creation."""

SLICE = 256
"""The number of resources that one call of pydantic reads or writes. No other thread runs during such a call."""
_SLICES: TypeAdapter[tuple[AnyResource, ...]] = TypeAdapter(tuple[AnyResource, ...])
_EMPTY = b'"resources":[]'
_SEPARATOR = b',{"kind":"'
T = TypeVar("T")


def take_resources(data: bytes) -> tuple[bytes, list[Resource]]:
    """Split the JSON of a document that contains a plan: the JSON without the plan's resources, and the resources.

    A JSON string contains no unescaped quote. The canonical form can therefore be cut at the text between two resources
    without parsing it first. Returns other JSON unchanged, with no resources.
    """
    before, begins, rest = data.partition(_EMPTY[:-1])
    body, ends, after = rest.partition(b'],"runtime":')
    if not (begins and ends and body):
        return data, []
    pieces = body.split(_SEPARATOR)
    pieces[1:] = [_SEPARATOR[1:] + piece for piece in pieces[1:]]
    try:
        slices = [_SLICES.validate_json(b"[" + b",".join(part) + b"]") for part in _sliced(pieces)]
    except ValidationError:
        return data, []  # the caller parses the whole document and reports the place
    return b"".join((before, _EMPTY, ends[1:], after)), [one for part in slices for one in part]


def _sliced(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + SLICE] for start in range(0, len(things), SLICE))


class HostPlan(Model):
    """All resources of one host. Equal input gives equal bytes. A plan contains no time, no commit and no secret."""

    version: Literal[1] = 1
    host: str
    resources: tuple[AnyResource, ...] = ()
    runtime: Runtime = Runtime()

    @classmethod
    def of(cls, host: str, resources: Iterable[Resource], runtime: Runtime | None = None) -> HostPlan:
        """A plan with its resources in canonical order."""
        ordered = sorted(resources, key=lambda r: (r.rank, r.kind, r.key))
        return cls(host=host, resources=tuple(ordered), runtime=runtime or Runtime())

    def canonical(self) -> bytes:
        """The plan as JSON. Equal plans give equal bytes.

        Fields that are None are left out. A field that is added later therefore does not change the bytes and the
        digest of older plans.
        """
        frame = self.model_copy(update={"resources": ()}).model_dump_json(exclude_none=True).encode()
        before, after = frame.split(_EMPTY, 1)
        slices = (_SLICES.dump_json(tuple(part), exclude_none=True)[1:-1] for part in _sliced(self.resources))
        return b"".join((before, _EMPTY[:-1], b",".join(slices), _EMPTY[-1:], after))

    @classmethod
    def parse(cls, data: bytes) -> HostPlan:
        """Parse the JSON of a plan. Raises ValidationError."""
        frame, resources = take_resources(data)
        return cls.model_validate_json(frame).having(resources)

    def having(self, resources: Sequence[Resource]) -> HostPlan:
        """This plan with these resources, which were parsed separately."""
        return self.model_copy(update={"resources": tuple(resources)}) if resources else self

    @property
    def digest(self) -> str:
        """The name of the plan: 16 bytes of BLAKE2b over the canonical form, in hexadecimal."""
        return blake2b(self.canonical(), digest_size=16).hexdigest()
