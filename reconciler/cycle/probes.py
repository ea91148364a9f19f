"""Chooses what must answer after a change from what answered before it. Pure.

A peer is *two-ended* if the change affects what a handshake needs at both ends: keys, a preshared key, a port, an
endpoint. The other end may poll later, so such a peer is judged separately. It counts neither way until its session
comes up, or the other end's poll interval and the deadline have passed. Everything behind such a peer waits with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.base.words import and_more
from reconciler.converge.layers import Composed
from reconciler.kinds.base import Observed
from reconciler.kinds.peer import is_fresh
from schema.ip import BITS, Prefix, address_text
from schema.plan import MAIN_TABLE, Key, Peer, Route, Runtime, Wireguard
from schema.plan.exits import SITE_EXITS

TRIES = 3
"""Failed checks are asked this often before a commit is rejected."""
CROWD = 3
"""With at least this many roaming peers on a device, one of them must answer again. Fewer may all have just left."""
SAMPLE = 16
"""At most this many roaming peers of a device are asked."""


@dataclass(frozen=True, slots=True)
class Check:
    """A target to ask, which answers or does not."""

    kind: Literal["gateway", "git", "ping", "tcp", "http", "dns"]
    target: str = ""
    """An address, `address:port`, a URL or a DNS name; for git, the server's address."""
    via: str = ""
    """For a gateway: its interface. For a DNS name: the server to ask."""

    @property
    def text(self) -> str:
        match self.kind:
            case "git":
                return "the git server"
            case "gateway":
                return f"the default gateway {self.target} on {self.via}"
        return f"{self.kind} {self.target}" + (f" at {self.via}" if self.via else "")


@dataclass(frozen=True, slots=True)
class LiveTunnel:
    """A peer that had a session."""

    key: Key
    name: str
    addresses: tuple[str, ...]
    """The addresses that a packet is sent to, to provoke an answer."""
    shared: bool = False
    """Other devices lead to the same host, which may answer through any of them."""

    @property
    def text(self) -> str:
        return f"the peer {self.name or self.key[1]} on {self.key[0]}"


@dataclass(slots=True)
class Criteria:
    """What answered before a change, and therefore must answer after it."""

    checks: list[Check] = field(default_factory=list)
    tunnels: list[LiveTunnel] = field(default_factory=list)
    crowds: dict[str, list[LiveTunnel]] = field(default_factory=dict)
    """Device -> roaming peers that answered. One of them must answer again."""
    later: list[LiveTunnel] = field(default_factory=list)
    """Two-ended peers."""
    later_checks: list[Check] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.checks or self.tunnels or self.crowds or self.later or self.later_checks)


def declared(runtime: Runtime) -> list[Check]:
    """The probes that the repository declares."""
    return [Check(probe.kind, probe.target, probe.server or "") for probe in runtime.probes or ()]


def gateways(routes: Iterable[Observed[Any]]) -> list[Check]:
    """The default gateway of each family, from the route with the best metric."""
    best: dict[str, Route] = {}
    for one in routes:
        route = one.resource
        if route.table == MAIN_TABLE and route.dst in ("0.0.0.0/0", "::/0") and route.via and route.dev:
            known = best.get(route.dst)
            if known is None or route.metric < known.metric:
                best[route.dst] = route
    return [Check("gateway", route.via or "", route.dev or "") for _, route in sorted(best.items())]


def family_kept(gateway: Check, now: Iterable[Check]) -> Check | None:
    """The current gateway of the same address family, which may be the same one."""
    return next((other for other in now if (":" in other.target) == (":" in gateway.target)), None)


def tunnels(
    previous: Composed, target: Composed, observed: Sequence[Observed[Any]]
) -> tuple[list[LiveTunnel], dict[str, list[LiveTunnel]], list[LiveTunnel]]:
    """The peers with a session that the new plan keeps: steady ones, roaming ones by device, two-ended ones."""
    fresh = {one.resource.key for one in observed if is_fresh(one)}
    before = {key: peer for key, peer in previous.kind("peer").items() if key in fresh and isinstance(peer, Peer)}
    parting = _parting(previous.runtime, target.runtime)
    hosts: dict[str, int] = {}
    for key in target.kind("peer"):
        hosts[str(key[1])] = hosts.get(str(key[1]), 0) + 1
    by_name = {(peer.dev, peer.name): peer for peer in before.values() if peer.name}
    steady: list[LiveTunnel] = []
    roaming: dict[str, list[LiveTunnel]] = {}
    both: list[LiveTunnel] = []
    for key, peer in target.kind("peer").items():
        assert isinstance(peer, Peer)
        old = before.get(key) or by_name.get((peer.dev, peer.name))
        if old is None or peer.dev in parting:
            continue
        tunnel = LiveTunnel(key, peer.name, addresses_behind(peer), hosts[peer.public_key] > 1)
        if _two_ended(old, peer, previous, target):
            both.append(tunnel)
        elif peer.endpoint is None and not peer.keepalive:
            roaming.setdefault(peer.dev, []).append(tunnel)
        else:
            steady.append(tunnel)
    return steady, {dev: some[:SAMPLE] for dev, some in roaming.items() if len(some) >= CROWD}, both


def _parting(previous: Runtime, target: Runtime) -> set[str]:
    """Devices whose peers may go at any moment. A site that uses this exit may choose another gateway. A changed or
    dropped exit keeps its tunnels until its loop follows, when the other end may have removed them already."""
    kept = target.exits or ()
    return {SITE_EXITS, *(slot.dev for exit in previous.exits or () if exit not in kept for slot in exit.slots)}


def _two_ended(old: Peer, new: Peer, previous: Composed, target: Composed) -> bool:
    if (old.public_key, old.endpoint, old.preshared_key) != (new.public_key, new.endpoint, new.preshared_key):
        return True
    before, after = previous.kind("wireguard").get((new.dev,)), target.kind("wireguard").get((new.dev,))
    if not (isinstance(before, Wireguard) and isinstance(after, Wireguard)):
        return True
    return (before.private_key.fingerprint, before.listen_port) != (after.private_key.fingerprint, after.listen_port)


def addresses_behind(peer: Peer) -> tuple[str, ...]:
    """One address per family that leads to the peer: its own if known, else any address behind it."""
    found: dict[int, Prefix] = {}
    for text in peer.allowed_ips:
        prefix = Prefix.parse(text)
        known = found.get(prefix.version)
        if known is None or prefix.length > known.length:
            found[prefix.version] = prefix
    # The last but one address of a network: the first ones may be this host's own.
    return tuple(
        address_text(version, prefix.last - (prefix.length < BITS[version] - 1))
        for version, prefix in sorted(found.items())
    )


def waits(check: Check, later: Iterable[LiveTunnel], target: Composed) -> bool:
    """Whether a check's target is behind a two-ended peer."""
    host = check.via if check.kind == "dns" else host_of(check)
    try:
        address = Prefix.parse(f"{host}/{128 if ':' in host else 32}")
    except ValueError:
        # A DNS name may be anywhere: it is judged with the rest.
        return False
    peers = (target.kind("peer").get(tunnel.key) for tunnel in later)
    return any(
        Prefix.parse(text).covers(address) for peer in peers if isinstance(peer, Peer) for text in peer.allowed_ips
    )


def host_of(check: Check) -> str:
    """The host of a check's target, an address or a name."""
    text = check.target
    if check.kind == "http":
        text = text.partition("://")[2].partition("/")[0]
    if check.kind in ("tcp", "http"):
        if text.startswith("["):
            return text[1:].partition("]")[0]
        return text.rpartition(":")[0] if ":" in text else text
    return text


def heard(before: Mapping[Key, int], now: Iterable[Observed[Any]]) -> set[Key]:
    """The peers that have sent something since `before`, which holds their counters of received bytes."""
    return {one.resource.key for one in now if one.session and one.session.rx_bytes > before.get(one.resource.key, 0)}


def counters(observed: Iterable[Observed[Any]]) -> dict[Key, int]:
    return {one.resource.key: one.session.rx_bytes for one in observed if one.session}


def complaint(failed: Sequence[Check | LiveTunnel], tries: int = TRIES) -> str:
    """One sentence about what no longer answers."""
    more = and_more(failed)
    return f"{failed[0].text}{more} answered before the change and does not any more, tried {tries} times"
