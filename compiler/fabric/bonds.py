"""Bonds: their form in a plan, and the bond member through which a host sends each tunnel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.fabric.model import Fabric, GraphEdge, Node
from compiler.fabric.reach import reach
from compiler.fabric.tunnel import Tunnel
from schema.desired.bond import Bond
from schema.ip import parse_address
from schema.leg import Sender
from schema.plan import BondOptions, Rider, WatchedBond
from schema.problem import Place


def bond_options(bond: Bond) -> BondOptions:
    """The options of a bond in a plan; kernel defaults are left out."""
    return BondOptions(
        mode=bond.mode,
        xmit_hash_policy=bond.policy or "layer3+4",
        miimon=round(bond.miimon * 1000),
        lacp_rate="fast" if bond.lacp_rate == "fast" else None,
        min_links=bond.min_links or None,
        primary=bond.primary,
    )


def senders(edge: GraphEdge) -> tuple[Sender | None, Sender | None]:
    """The known properties of the packets that each end of a link sends; None if no bond hashes their ports."""
    a, b = _sender(edge.a, edge.b), _sender(edge.b, edge.a)
    return a if isinstance(a, Sender) else None, b if isinstance(b, Sender) else None


def _sender(node: Node, other: Node) -> Sender | str | None:
    """What a host sends to another, or the reason why that is unknown; None if it has no legs to choose from."""
    bond = node.model.underlay.bond
    if bond is None or len(bond.members) < 2 or bond.policy != "layer3+4":
        return None
    found = _addresses(node, other)
    return found if isinstance(found, str) else Sender.of(*found, len(bond.members))


def _addresses(node: Node, other: Node) -> tuple[str, str] | str:
    """Source and destination address of a host's packets to another, or the reason why they are unknown."""
    underlay = node.model.underlay
    if underlay.addresses == "dhcp":
        return f"{node.name} has its address from DHCP"
    target = reach(other, node)
    if target is None:
        return f"{other.name} only dials out"
    try:
        version, _ = parse_address(target)
    except ValueError:
        return f"{other.name} is dialled by its name {target}"
    # The kernel sends from the first address of the family, as `ip route get` shows.
    return next(address.address for address in underlay.addresses if address.version == version), target


def runtime_bonds(node: Node) -> tuple[WatchedBond, ...] | None:
    """What the agent must know of a bond to watch it."""
    bond = node.model.underlay.bond
    if bond is None:
        return None
    riders = []
    for edge in node.edges:
        if edge.kind != "link":
            continue
        other = edge.other(node)
        found = _addresses(node, other)
        source, target = (None, None) if isinstance(found, str) else found
        for tunnel in (*edge.tunnels, *edge.successors):
            end, far = tunnel.ends[node.name], tunnel.ends[other.name]
            riders.append(Rider(dev=end.dev, port=end.port, far_port=far.port, source=source, target=target))
    known = WatchedBond(name=bond.name, mode=bond.mode, hash=bond.policy, members=bond.members, tunnels=tuple(riders))
    return (known,)


def ride(fabric: Fabric, edge: GraphEdge, tunnels: Sequence[Tunnel], fixed: bool, place: Callable[..., Place]) -> None:
    """Set the leg by which each end sends each of these tunnels, and report what prevents an even spread.

    `fixed`: the link's ports are written in its document.
    """
    for node, other in ((edge.a, edge.b), (edge.b, edge.a)):
        found = _sender(node, other)
        if isinstance(found, Sender):
            for tunnel in tunnels:
                end = tunnel.ends[node.name]
                end.leg = found.leg(end.port, tunnel.ends[other.name].port)
            _check_even(fabric, edge, node, tunnels, found.legs, fixed, place)
        elif len(tunnels) > 1:
            _check_hash(fabric, edge, node, found, place)


def _check_hash(fabric: Fabric, edge: GraphEdge, node: Node, unknown: str | None, place: Callable[..., Place]) -> None:
    bond = node.model.underlay.bond
    if unknown is not None:
        message = f"by which legs {node.name} sends the tunnels of {edge.name} is not known: {unknown}"
        hint = "write addresses for both ends if they have any that last; its agent says where two busy tunnels collide"
        fabric.warning("GW091", place("tunnels"), message, hint)
    elif bond is not None and len(bond.members) > 1 and bond.policy not in (None, "layer3+4"):
        message = f"{node.name}'s bond hashes by {bond.policy}: all tunnels of {edge.name} leave by one leg"
        hint = "write `hash: layer3+4`, also where the operating system sets up the bond: xmit_hash_policy=layer3+4"
        fabric.warning("GW090", node.place("underlay", "bond", "hash"), message, hint)


def _check_even(
    fabric: Fabric,
    edge: GraphEdge,
    node: Node,
    tunnels: Sequence[Tunnel],
    legs: int,
    fixed: bool,
    place: Callable[..., Place],
) -> None:
    """Warn if a leg has at least two tunnels more than another, which only given ports can cause."""
    riders: list[list[Tunnel]] = [[] for _ in range(legs)]
    for tunnel in tunnels:
        riders[tunnel.ends[node.name].leg or 0].append(tunnel)
    if max(map(len, riders)) - min(map(len, riders)) < 2:
        return
    counts = ", ".join(f"leg {leg}: {len(those)}" for leg, those in enumerate(riders))
    message = f"{node.name} sends the tunnels of {edge.name} unevenly ({counts})"
    if fixed:
        fabric.warning("GW092", place("ports"), message, "remove `ports:`, and the lock has some that spread them")
        return
    lines = [
        f"port {end} {tunnel.name}" for tunnel in _too_many(riders, len(tunnels)) for end in (edge.a.name, edge.b.name)
    ]
    hint = f"remove from fabric.lock, then run `gitwan lock`: {'; '.join(lines)}"
    fabric.warning("GW092", place("tunnels"), f"{message}, on ports that the lock names", hint)


def _too_many(riders: Sequence[Sequence[Tunnel]], total: int) -> list[Tunnel]:
    """The tunnels that must move to another leg to make the legs as even as possible."""
    share, fuller = divmod(total, len(riders))
    found: list[Tunnel] = []
    for those in sorted(riders, key=len, reverse=True):
        stay = share + (fuller > 0)
        fuller -= len(those) >= stay and fuller > 0
        found += those[stay:]
    return sorted(found, key=lambda tunnel: tunnel.name)
