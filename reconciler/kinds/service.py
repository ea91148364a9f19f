"""Services: ours where the process that our pid file names runs with a configuration in our folder, and alive."""

from __future__ import annotations

from reconciler.kinds.base import Kind, Observed
from schema.plan import Resource

MARKER = "services"
"""The folder below the agent's own in which everything about them stands."""


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    return observed.up and observed.resource == desired


KIND = Kind(
    name="service",
    marker=MARKER,
    stands_on=frozenset(),
    announced_by="nobody",
    waits=True,
    satisfies=satisfies,
)
