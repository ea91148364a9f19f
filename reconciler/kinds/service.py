"""Services: ours if the process in our pid file is alive and runs with a configuration in our folder."""

from __future__ import annotations

from reconciler.kinds.base import Kind, Observed
from schema.plan import Resource

MARKER = "services"
"""The folder for all service files, inside the agent's own."""


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
