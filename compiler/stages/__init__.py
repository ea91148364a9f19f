"""Turns the desired state into a fabric, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.fabric.model import Fabric
from compiler.stages.addresses import allocate_addresses
from compiler.stages.exits import take_exits
from compiler.stages.gateways import take_gateways
from compiler.stages.keys import take_keys
from compiler.stages.links import build_links, leave_out
from compiler.stages.names import index_names
from compiler.stages.networks import assign_networks
from compiler.stages.routing import prepare_routing
from compiler.stages.secrets import take_secrets
from compiler.stages.site_exits import take_site_exits
from schema.desired import Documents

Stage = Callable[[Fabric], None]

STAGES: tuple[Stage, ...] = (
    index_names,
    Fabric.barrier,
    take_keys,
    assign_networks,
    take_gateways,
    take_exits,
    take_site_exits,
    allocate_addresses,
    build_links,
    Fabric.barrier,
    leave_out,
    prepare_routing,
    take_secrets,
    Fabric.barrier,
)


def resolve(desired: Documents, stages: Sequence[Stage] = STAGES) -> Fabric:
    """The network that a repository describes. Raises Problems if it describes none."""
    fabric = Fabric(desired)
    for stage in stages:
        stage(fabric)
    return fabric
