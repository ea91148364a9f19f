"""What a host applies: a `HostPlan` of resources, one file per kind of resource.

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
from schema.plan.exits import Exit, ExitGateway, ExitHealth, ExitSlot
from schema.plan.firewall import Firewall
from schema.plan.link import BondOptions, Link
from schema.plan.marks import Marks
from schema.plan.nexthop import Member, Nexthop, Resilient
from schema.plan.peer import Peer
from schema.plan.ranges import METRIC, PROTOCOL
from schema.plan.route import MAIN_TABLE, Route
from schema.plan.rule import Rule
from schema.plan.runtime import DEADLINE, Bond, Lost, Probe, Rider, Runtime, Standby, Takeover, Tunnel, Watch
from schema.plan.service import Service, ServiceFile
from schema.plan.sysctl import Sysctl
from schema.plan.wireguard import Wireguard

__all__ = [
    "DEADLINE", "MAIN_TABLE", "METRIC", "PROTOCOL", "RESOURCES", "Address", "AnyResource", "Bond", "BondOptions",
    "Change", "Disruption", "Exit", "ExitGateway", "ExitHealth", "ExitSlot", "Firewall", "HostPlan", "Key", "Link",
    "Lost", "Marks", "Member", "Model", "Nexthop", "Peer", "Probe", "Resilient", "Resource", "Rider", "Route", "Rule",
    "Runtime", "SecretRef", "Service", "ServiceFile", "Standby", "Sysctl", "Takeover", "Tunnel", "Watch",
    "Wireguard", "diff", "family_of", "take_resources",
]  # fmt: skip

AnyResource = Annotated[
    Address | Firewall | Link | Nexthop | Peer | Route | Rule | Service | Sysctl | Wireguard,
    Field(discriminator="kind"),
]
RESOURCES: dict[str, type[Resource]] = {
    "firewall": Firewall, "link": Link, "sysctl": Sysctl, "wireguard": Wireguard, "address": Address, "peer": Peer,
    "nexthop": Nexthop, "route": Route, "rule": Rule, "service": Service,
}  # fmt: skip
"""Every kind, in the order in which it is created."""

SLICE = 256
"""Resources that are read or written in one call of the library: as long as it takes, no other thread gets its turn."""
_SLICES: TypeAdapter[tuple[AnyResource, ...]] = TypeAdapter(tuple[AnyResource, ...])
_EMPTY = b'"resources":[]'
_SEPARATOR = b',{"kind":"'
T = TypeVar("T")


def take_resources(data: bytes) -> tuple[bytes, list[Resource]]:
    """JSON with a plan in it, without the plan's resources, and these.

    No string of JSON holds a quote that is not escaped, so the canonical form can be cut at the words between its
    resources without being understood first. What is not canonical is left whole.
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
        return data, []  # whoever reads it whole will name the place
    return b"".join((before, _EMPTY, ends[1:], after)), [one for part in slices for one in part]


def _sliced(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + SLICE] for start in range(0, len(things), SLICE))


class HostPlan(Model):
    """All that one host should hold. Equal input gives equal bytes; no clock, no commit, no secret stands here."""

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
        """The plan as JSON, the same bytes for the same plan.

        What is None is left out, so that a field added later leaves the bytes, and so the digest, of older plans
        as they were.
        """
        frame = self.model_copy(update={"resources": ()}).model_dump_json(exclude_none=True).encode()
        before, after = frame.split(_EMPTY, 1)
        slices = (_SLICES.dump_json(tuple(part), exclude_none=True)[1:-1] for part in _sliced(self.resources))
        return b"".join((before, _EMPTY[:-1], b",".join(slices), _EMPTY[-1:], after))

    @classmethod
    def parse(cls, data: bytes) -> HostPlan:
        """A plan from its JSON. Raises ValidationError."""
        frame, resources = take_resources(data)
        return cls.model_validate_json(frame).having(resources)

    def having(self, resources: Sequence[Resource]) -> HostPlan:
        """This plan with resources that were read apart from it."""
        return self.model_copy(update={"resources": tuple(resources)}) if resources else self

    @property
    def digest(self) -> str:
        """Sixteen bytes of BLAKE2b over the canonical form, in hexadecimal: the plan's name."""
        return blake2b(self.canonical(), digest_size=16).hexdigest()
