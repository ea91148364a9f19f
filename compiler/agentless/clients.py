"""The configuration of a roaming client, which has no agent."""

from __future__ import annotations

from compiler.fabric.model import Fabric, Roamer, address_of, texts
from compiler.fabric.mtu import OVERHEAD
from compiler.fabric.reach import reach
from compiler.fabric.summary import summarise
from compiler.render import client_config
from compiler.stages.ports import CLIENTS
from schema.ip import endpoint_text

KEEPALIVE = 25
"""Seconds. Many NATs forget a UDP flow after 30 s."""


def client_file(fabric: Fabric, roamer: Roamer) -> str | None:
    """A client's configuration for wg-quick; None if its gateway has no key yet."""
    gateway = fabric.nodes[roamer.gateway]
    address = reach(gateway, None)
    if gateway.key is None or address is None:
        return None
    doc = fabric.desired.fabric
    assert doc is not None
    reachable = [prefix for node in fabric.nodes.values() if node.key for prefix in node.prefixes]
    return client_config(
        {
            "name": roamer.name,
            "addresses": [address_of(version, value) for version, value in sorted(roamer.address.items())],
            "mtu": gateway.model.underlay.mtu - OVERHEAD[6],
            "gateway": gateway.name,
            "public_key": gateway.clients_key.fingerprint if gateway.clients_key else gateway.key,
            "endpoint": endpoint_text(address, gateway.ports[CLIENTS]),
            "allowed_ips": texts(summarise([*reachable, *doc.model.pools.clients])),
            "keepalive": KEEPALIVE,
        }
    )
