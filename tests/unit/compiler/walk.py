"""Packets walked through plans: what the routes and AllowedIPs of every host do with them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schema.ip import Prefix, parse_address
from schema.plan import Nexthop, Peer, Resource, Route

TTL = 64


class Walker:
    """What hosts hold as their kernels would use it. Networks that a host is connected to are given beside it, and who
    has an address that a route names on a LAN. Packets that a dead tunnel is given are lost."""

    def __init__(
        self,
        held: Mapping[str, Iterable[Resource]],
        connected: Mapping[str, list[Prefix]],
        keys: Mapping[str, str],
        owners: Mapping[str, str] | None = None,
        dead: Iterable[tuple[str, str]] = (),
    ):
        self.connected = connected
        self.host_of = {key: host for host, key in keys.items()}
        self.key_of = dict(keys)
        self.owners, self.dead = owners or {}, set(dead)
        self.routes = {h: [(Prefix.parse(r.dst), r) for r in of(p, Route)] for h, p in held.items()}
        self.nexthops = {h: {n.id: n for n in of(p, Nexthop)} for h, p in held.items()}
        self.peers = {h: of(p, Peer) for h, p in held.items()}

    def walk(self, host: str, source: str, target: str) -> list[str]:
        """The hosts that a packet passes, the one that is connected to its target last. Raises AssertionError."""
        path = [host]
        while not self._connected(host, target):
            assert len(path) < TTL, f"{source} to {target} circles: {path[:6]}"
            for out in self._out(host, target):
                # An address on a LAN, or a tunnel.
                following = self.owners[out] if out in self.owners else self._enter(host, out, source, target)
            host = following
            path.append(host)
        return path

    def _connected(self, host: str, target: str) -> bool:
        return any(contains(prefix, target) for prefix in self.connected[host])

    def _out(self, host: str, target: str) -> list[str]:
        """Where the best route leads: an address on a LAN, a tunnel, or each of several that may be chosen."""
        found = [(p.length, -r.metric, r) for p, r in self.routes[host] if contains(p, target)]
        assert found, f"{host} has no route to {target}"
        route = max(found, key=lambda item: item[:2])[2]
        assert route.type == "unicast", f"{host} refuses {target}: {route.describe()}"
        if route.nhid is None:
            assert route.dev is not None
            return [route.via or route.dev]
        group = self.nexthops[host][route.nhid].group
        return [str(self.nexthops[host][member.id].dev) for member in group]

    def _enter(self, host: str, dev: str, source: str, target: str) -> str:
        """Who gets the packet, if the sender's AllowedIPs send it and the receiver's accept its source."""
        assert (host, dev) not in self.dead, f"{host} sends {target} into the dead {dev}"
        peer = self._peer(host, dev, target)
        assert peer is not None, f"{host} has no peer on {dev} for {target}"
        other = self.host_of[peer.public_key]
        accepting = [p for p in self.peers[other] if p.public_key == self.key_of[host]]
        devices = {p.dev for p in accepting if (best := self._peer(other, p.dev, source)) and best == p}
        assert devices, f"{other} accepts no packet of {source} from {host}"
        return other

    def _peer(self, host: str, dev: str, address: str) -> Peer | None:
        found = [
            (Prefix.parse(ip).length, peer)
            for peer in self.peers[host]
            if peer.dev == dev
            for ip in peer.allowed_ips
            if contains(Prefix.parse(ip), address)
        ]
        return max(found, key=lambda item: item[0])[1] if found else None


def of(held: Iterable[Resource], kind: type) -> list:  # type: ignore[type-arg]
    return [resource for resource in held if isinstance(resource, kind)]


def contains(prefix: Prefix, address: str) -> bool:
    version, value = parse_address(address)
    return prefix.version == version and prefix.first <= value <= prefix.last
