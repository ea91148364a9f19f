"""A plan as native files for `wg setconf`, `iptables-restore`, `ip -batch` and `sysctl -p`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from schema.plan import PROTOCOL, Firewall, HostPlan, Peer


@cache
def environment() -> Environment:
    """The templates. A missing value is an error, never an empty string."""
    return Environment(
        loader=PackageLoader("compiler.render"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


ByKind = Mapping[str, Sequence[Any]]
"""Kind -> the plan's resources of this kind, in the plan's order; empty if there are none."""
Native = Callable[[HostPlan, ByKind], dict[str, str]]
"""(plan, resources by kind) -> file name -> text."""


def render(plan: HostPlan, native: Mapping[str, Native] | None = None) -> dict[str, str]:
    """Native files of a plan: file name -> text. A plan contains no private keys: a placeholder names the source of
    each.

    `native` defaults to `NATIVE`. Raises LookupError for a kind that is not in it, because a host that uses these files
    would lack the kind.
    """
    writers = NATIVE if native is None else native
    kinds: dict[str, list[Any]] = {kind: [] for kind in writers}
    for resource in plan.resources:
        if resource.kind not in kinds:
            raise LookupError(f"the kind {resource.kind} has no native form: compiler/render has none in NATIVE")
        kinds[resource.kind].append(resource)
    files: dict[str, str] = {}
    for write in dict.fromkeys(writers.values()):
        files |= write(plan, kinds)
    return files


def client_config(context: Mapping[str, object]) -> str:
    """A roaming client's configuration for wg-quick; see `compiler/agentless/clients.py` for the context."""
    return _template("client.conf", **context)


def service_config(name: str, context: Mapping[str, object]) -> str:
    """The configuration of a service; see `compiler/plan/gateways.py` for the context."""
    return _template(f"{name}.conf", **context)


def routes_text(form: str, lans: Iterable[Mapping[str, object]], dev: str) -> str:
    """Routes for the machines of a site; see `compiler/cli/routes.py` for the form of a LAN."""
    return _template(f"routes/{form}", lans=list(lans), dev=dev)


def _wireguard(plan: HostPlan, kinds: ByKind) -> dict[str, str]:
    """A file for each WireGuard device, with its peers."""
    peers: dict[str, list[Peer]] = {}
    for peer in kinds["peer"]:
        peers.setdefault(peer.dev, []).append(peer)
    return {
        f"wireguard/{device.dev}.conf": _template("wireguard.conf", device=device, peers=peers.get(device.dev, []))
        for device in kinds["wireguard"]
    }


def _batches(plan: HostPlan, kinds: ByKind) -> dict[str, str]:
    """Three files, in the order of their use. `ip` accepts the family only on its command line. IPv6 rules and IPv6
    nexthops without a gateway need it there, but nexthop groups reject it."""
    nexthops, rules = kinds["nexthop"], kinds["rule"]
    first = {
        "links": kinds["link"],
        "addresses": kinds["address"],
        "nexthops": [n for n in nexthops if n.family == "inet"],
    }
    second = {
        "nexthops": [n for n in nexthops if n.family == "inet6"],
        "rules": [r for r in rules if r.family == "inet6"],
    }
    third = {
        "nexthops": [n for n in nexthops if n.group],
        "routes": kinds["route"],
        "rules": [r for r in rules if r.family == "inet"],
    }
    empty: ByKind = {"links": [], "addresses": [], "nexthops": [], "routes": [], "rules": []}
    parts: dict[str, tuple[str, ByKind]] = {
        "1-ip.batch": ("ip", first),
        "2-ip6.batch": ("ip -6", second),
        "3-ip.batch": ("ip", third),
    }
    return {
        name: _template("ip.batch", plan=plan, protocol=PROTOCOL, tool=tool, **{**empty, **part})
        for name, (tool, part) in parts.items()
    }


def _firewall(plan: HostPlan, kinds: ByKind) -> dict[str, str]:
    files = {}
    for family, name in (("inet", "iptables.rules"), ("inet6", "ip6tables.rules")):
        tables: dict[str, list[Firewall]] = {}
        for chain in kinds["firewall"]:
            if chain.family == family:
                tables.setdefault(chain.table, []).append(chain)
        files[name] = _template("iptables.rules", plan=plan, tables=tables)
    return files


def _sysctl(plan: HostPlan, kinds: ByKind) -> dict[str, str]:
    return {"sysctl.conf": _template("sysctl.conf", plan=plan, sysctl=kinds["sysctl"])}


def _services(plan: HostPlan, kinds: ByKind) -> dict[str, str]:
    """The configuration of each daemon, and the files that it refers to."""
    files = {f"{service.name}.conf": service.config for service in kinds["service"]}
    for service in kinds["service"]:
        files |= {f"{service.name}.d/{file.name}": file.text for file in service.files or ()}
    return files


NATIVE: dict[str, Native] = {
    "firewall": _firewall, "link": _batches, "sysctl": _sysctl, "wireguard": _wireguard, "address": _batches,
    "peer": _wireguard, "nexthop": _batches, "route": _batches, "rule": _batches, "service": _services,
}  # fmt: skip
"""Kind -> the function that writes it. Kinds that share a file share a function."""


def _template(file: str, /, **context: object) -> str:
    return environment().get_template(f"{file}.j2").render(context)
