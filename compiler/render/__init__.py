"""A plan in native files: what `wg setconf`, `iptables-restore`, `ip -batch` and `sysctl -p` take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from schema.plan import (
    PROTOCOL,
    Address,
    Firewall,
    HostPlan,
    Link,
    Nexthop,
    Peer,
    Route,
    Rule,
    Service,
    Sysctl,
    Wireguard,
)


@cache
def environment() -> Environment:
    """The templates; a value that is missing is an error, never an empty string."""
    return Environment(
        loader=PackageLoader("compiler.render"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(plan: HostPlan) -> dict[str, str]:
    """File name -> text. Private keys are not in a plan: a placeholder names where each one comes from."""
    kinds: dict[type, list[Any]] = {}
    for resource in plan.resources:
        kinds.setdefault(type(resource), []).append(resource)
    peers: dict[str, list[Peer]] = {}
    for peer in kinds.get(Peer, []):
        peers.setdefault(peer.dev, []).append(peer)
    files = {
        f"wireguard/{device.dev}.conf": _template("wireguard.conf", device=device, peers=peers.get(device.dev, []))
        for device in kinds.get(Wireguard, [])
    }
    files["iptables.rules"] = _firewall(plan, kinds.get(Firewall, []), "inet")
    files["ip6tables.rules"] = _firewall(plan, kinds.get(Firewall, []), "inet6")
    files |= _batches(plan, kinds)
    files["sysctl.conf"] = _template("sysctl.conf", plan=plan, sysctl=kinds.get(Sysctl, []))
    for service in kinds.get(Service, []):
        files[f"{service.name}.conf"] = service.config
        files |= {f"{service.name}.d/{file.name}": file.text for file in service.files or ()}
    return files


def client_config(context: Mapping[str, object]) -> str:
    """A roaming client's configuration for wg-quick; see `compiler/clients.py` for the context."""
    return _template("client.conf", **context)


def service_config(name: str, context: Mapping[str, object]) -> str:
    """What a service is told; see `compiler/gateways.py` for the context."""
    return _template(f"{name}.conf", **context)


def routes_text(form: str, lans: Iterable[Mapping[str, object]], dev: str) -> str:
    """Routes for the machines of a site; see `compiler/routes_cli.py` for a LAN."""
    return _template(f"routes/{form}", lans=list(lans), dev=dev)


def _batches(plan: HostPlan, kinds: Mapping[type, list[Any]]) -> dict[str, str]:
    """Three files in their order: `ip` takes a family on its command line only, where an IPv6 nexthop without a gateway
    and an IPv6 rule need it and a group of nexthops refuses it."""
    nexthops, rules = kinds.get(Nexthop, []), kinds.get(Rule, [])
    first = {
        "links": kinds.get(Link, []),
        "addresses": kinds.get(Address, []),
        "nexthops": [n for n in nexthops if n.family == "inet"],
    }
    second = {
        "nexthops": [n for n in nexthops if n.family == "inet6"],
        "rules": [r for r in rules if r.family == "inet6"],
    }
    third = {
        "nexthops": [n for n in nexthops if n.group],
        "routes": kinds.get(Route, []),
        "rules": [r for r in rules if r.family == "inet"],
    }
    empty: dict[str, list[Any]] = {"links": [], "addresses": [], "nexthops": [], "routes": [], "rules": []}
    parts = {"1-ip.batch": ("ip", first), "2-ip6.batch": ("ip -6", second), "3-ip.batch": ("ip", third)}
    return {
        name: _template("ip.batch", plan=plan, protocol=PROTOCOL, tool=tool, **{**empty, **part})
        for name, (tool, part) in parts.items()
    }


def _firewall(plan: HostPlan, chains: Iterable[Firewall], family: str) -> str:
    tables: dict[str, list[Firewall]] = {}
    for chain in chains:
        if chain.family == family:
            tables.setdefault(chain.table, []).append(chain)
    return _template("iptables.rules", plan=plan, tables=tables)


def _template(file: str, /, **context: object) -> str:
    return environment().get_template(f"{file}.j2").render(context)
