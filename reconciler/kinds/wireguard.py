"""WireGuard devices: ours by the alias of their link."""

from __future__ import annotations

from reconciler.kinds.base import ALIAS, Kind, Observed
from schema.plan import Resource, Wireguard


def satisfies(observed: Observed[Resource], desired: Resource, previous: Resource | None) -> bool:
    """Compares the key (by its public half), port and mark; no mark equals mark 0. The leg is not a kernel setting."""
    found = observed.resource
    if not (isinstance(found, Wireguard) and isinstance(desired, Wireguard)):
        return False
    return (
        found.private_key.fingerprint == desired.private_key.fingerprint
        and found.listen_port == desired.listen_port
        and (found.fwmark or 0) == (desired.fwmark or 0)
    )


KIND = Kind(
    name="wireguard",
    marker=ALIAS,
    stands_on=frozenset({"link"}),
    announced_by="nobody",
    part_of="link",
    dumped_by="device",
    satisfies=satisfies,
)
