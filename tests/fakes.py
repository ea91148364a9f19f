"""A host in memory, with the drivers of a real one: the same refusals, cascades and silent moves.

The contract tests hold it against the kernel. `snapshot()` compares two hosts, or one before and after.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.kinds.base import ALIAS, Failure, Observed, Session
from reconciler.kinds.firewall import PREFIX
from reconciler.kinds.service import MARKER as SERVICES
from reconciler.kinds.sysctl import MARKER
from reconciler.system.wg_moves import freed
from schema.plan import (
    PROTOCOL,
    RESOURCES,
    Address,
    BondOptions,
    Change,
    Firewall,
    Key,
    Link,
    Nexthop,
    Peer,
    Resource,
    Route,
    Rule,
    SecretRef,
    Service,
    Sysctl,
    Wireguard,
)

Stored = dict[Key, Observed[Any]]


class Killed(BaseException):
    """The process ended in the middle of applying, as `die_after` asked."""


@dataclass
class FakeHost:
    """What a kernel holds. `plain` are interfaces of types that gitwan does not make."""

    plain: set[str] = field(default_factory=lambda: {"lo", "eth0", "eth1"})
    stored: dict[str, Stored] = field(default_factory=lambda: {kind: {} for kind in RESOURCES})
    masters: dict[str, str] = field(default_factory=dict)
    """The bond or bridge of each member."""
    parameters: dict[str, str] = field(default_factory=lambda: {"net/ipv4/ip_forward": "0"})
    inventory: dict[str, str] = field(default_factory=dict)
    """Parameters' values from before us."""
    operations: int = 0
    """Changes that were tried."""
    _faults: dict[str, list[int]] = field(default_factory=dict)
    _lives: int | None = None

    def drivers(self) -> dict[str, FakeDriver]:
        return {kind: FakeDriver(self, kind) for kind in RESOURCES}

    # What tests do to a host behind the agent's back

    def add(self, resource: Resource, marker: int | str | None = None, *, session: Session | None = None) -> None:
        """Put an object there, somebody else's unless a marker says otherwise."""
        if isinstance(resource, Sysctl):
            self.parameters[resource.name] = resource.value
            return
        if isinstance(resource, Link):
            resource = resource.model_copy(update=_link_defaults(resource))
            self.masters |= dict.fromkeys(resource.members, resource.name)
        if isinstance(resource, Peer):
            resource = _as_kernel_sees(resource)
            session = session or Session(resource.endpoint, None)
        self.stored[resource.kind][_place(resource, marker)] = Observed(resource, marker, session)

    def remove(self, resource: Resource) -> None:
        """Take an object away, whoever's it is, with all that hangs on it."""
        if isinstance(resource, Link):
            self._delete_link(resource.name)
        elif isinstance(resource, Nexthop):
            self._delete_nexthop(resource)
        else:
            of_kind = self.stored[resource.kind]
            for place in [place for place, one in of_kind.items() if one.resource.key == resource.key]:
                del of_kind[place]

    def set_down(self, name: str) -> None:
        """Set a link down: what leaves by it goes, its addresses stay."""
        link = self.stored["link"][name,]
        self.stored["link"][name,] = replace(link, up=False)
        self._drop_ways_out(name)

    def end_service(self, name: str) -> None:
        """A daemon dies."""
        self.stored["service"][name,] = replace(self.stored["service"][name,], up=False)

    def handshake(self, dev: str, public_key: str, *, age: float = 0.0, endpoint: str | None = None) -> None:
        """A peer spoke, perhaps from somewhere else."""
        peer = self.stored["peer"][dev, public_key]
        endpoint = endpoint or peer.resource.endpoint
        resource = peer.resource.model_copy(update={"endpoint": endpoint})
        self.stored["peer"][dev, public_key] = Observed(resource, peer.marker, Session(endpoint, age))

    def fail_next(self, kind: str, number: int, count: int = 1) -> None:
        """Refuse the next changes of a kind with an errno."""
        self._faults.setdefault(kind, []).extend([number] * count)

    def heal(self) -> None:
        """Refuse nothing any more."""
        self._faults.clear()

    def die_after(self, operations: int | None) -> None:
        """Raise `Killed` in place of the change after so many; None lives on."""
        self._lives = operations

    def snapshot(self) -> dict[str, frozenset[Any]]:
        """All that the host holds and who owns it, but for sessions."""
        shown: dict[str, frozenset[Any]] = {
            kind: frozenset((one.resource, one.marker, one.up) for one in self.observe(kind)) for kind in self.stored
        }
        shown["parameters"] = frozenset(self.parameters.items())
        return shown

    # The drivers' side

    def observe(self, kind: str) -> list[Observed[Any]]:
        if kind == "sysctl":
            values = ((name, self.parameters.get(name, "")) for name in self.inventory)
            return [Observed(Sysctl(name=name, value=value), MARKER) for name, value in values]
        found = list(self.stored[kind].values())
        if kind == "link":
            return [replace(one, resource=self._with_members(one.resource)) for one in found]
        if kind in ("wireguard", "peer"):
            return [replace(one, marker=self._alias(one.resource.dev)) for one in found]
        return found

    def apply(self, kind: str, changes: Sequence[Change]) -> list[Failure]:
        failures = []
        done = []
        for change in changes:
            if self._lives is not None:
                if self._lives <= 0:
                    raise Killed
                self._lives -= 1
            self.operations += 1
            try:
                if self._faults.get(kind):
                    raise _error(self._faults[kind].pop(0))
                _APPLY[kind](self, change)
                done.append(change)
            except OSError as error:
                failures.append(Failure(change, errno.errorcode.get(error.errno or 0, ""), error.strerror or ""))
        if kind == "peer":
            self._park(done)
        return failures

    def _interfaces(self) -> set[str]:
        return self.plain | {str(key[0]) for key in self.stored["link"]}

    def _need(self, name: str | None, *, up: bool = False) -> None:
        """Raise ENODEV where an interface is not there, ENETDOWN where it has to be up and is not."""
        if name is None:
            return
        if name not in self._interfaces():
            raise _error(errno.ENODEV)
        link = self.stored["link"].get((name,))
        if up and link is not None and not link.up:
            raise _error(errno.ENETDOWN)

    def _alias(self, name: str) -> int | str | None:
        link = self.stored["link"].get((name,))
        return link.marker if link else None

    def _with_members(self, link: Link) -> Link:
        members = tuple(sorted(name for name, master in self.masters.items() if master == link.name))
        return link if members == link.members else link.model_copy(update={"members": members})

    # Links

    def _apply_link(self, change: Change) -> None:
        before, after = change.before, change.after
        name = str(change.resource.key[0])
        there = self.stored["link"].get((name,))
        if after is None:
            if there is not None and there.marker == ALIAS:
                self._delete_link(name)
            return
        assert isinstance(after, Link)
        if name in self.plain:
            raise _error(errno.EEXIST)
        if there is not None and isinstance(before, Link) and _must_be_remade(before, after):
            self._delete_link(name)
            there = None
        if there is not None and before is None and not self._will_do(there, after):
            raise _error(errno.EEXIST)
        if there is not None and before is None and there.marker != ALIAS:
            return
        known = there.resource if there else None
        self.stored["link"][name,] = Observed(after.model_copy(update=_link_defaults(after, known)), ALIAS)
        self._set_members(after)

    def _will_do(self, there: Observed[Any], after: Link) -> bool:
        found = self._with_members(there.resource)
        if there.marker == ALIAS:
            return found.type == after.type
        return (
            found.type == after.type
            and after.mtu in (None, found.mtu)
            and after.group in (None, found.group)
            and set(found.members) == set(after.members)
            and after.bond in (None, found.bond)
        )

    def _set_members(self, link: Link) -> None:
        for name in [name for name, master in self.masters.items() if master == link.name]:
            if name not in link.members:
                del self.masters[name]
        for name in link.members:
            self._need(name)
            self.masters[name] = link.name

    def _delete_link(self, name: str) -> None:
        self.stored["link"].pop((name,), None)
        self.masters = {member: master for member, master in self.masters.items() if name not in (member, master)}
        for kind in ("address", "wireguard", "peer"):
            self._drop(kind, lambda one: one.dev == name)
        self._drop_ways_out(name)
        for parameter in [parameter for parameter in self.parameters if f"/{name}/" in parameter]:
            del self.parameters[parameter]

    def _drop_ways_out(self, name: str) -> None:
        self._drop("route", lambda route: route.dev == name)
        for nexthop in [one.resource for one in self.stored["nexthop"].values() if one.resource.dev == name]:
            self._delete_nexthop(nexthop)

    def _drop(self, kind: str, gone: Callable[[Any], bool]) -> None:
        self.stored[kind] = {place: one for place, one in self.stored[kind].items() if not gone(one.resource)}

    # Addresses, nexthops, routes, rules

    def _apply_address(self, change: Change) -> None:
        address = change.resource
        assert isinstance(address, Address)
        there = self.stored["address"].get(address.key)
        if change.after is None:
            if there is not None and there.marker == PROTOCOL:
                del self.stored["address"][address.key]
                self._drop("route", lambda route: route.src == address.address.partition("/")[0])
            return
        self._need(address.dev)
        if there is None or change.before is not None:
            self.stored["address"][address.key] = Observed(address, PROTOCOL)

    def _apply_nexthop(self, change: Change) -> None:
        nexthop = change.resource
        assert isinstance(nexthop, Nexthop)
        there = self._nexthop(nexthop.id)
        if change.after is None:
            if there is not None and there.marker == PROTOCOL:
                self._delete_nexthop(there.resource)
            return
        self._need(nexthop.dev, up=True)
        for member in nexthop.group:
            found = self._nexthop(member.id)
            if found is None or found.resource.group:
                raise _error(errno.EINVAL)
        family = nexthop.family or (None if nexthop.group else "inet")
        stored = Observed(nexthop.model_copy(update={"family": family}), PROTOCOL)
        if there is not None and change.before is None:
            if there.resource != stored.resource:
                raise _error(errno.EEXIST)
            return
        if there is not None and _type(there.resource) != _type(nexthop):
            raise _error(errno.EINVAL)
        self.stored["nexthop"][nexthop.key] = stored

    def _nexthop(self, number: int) -> Observed[Any] | None:
        of_kind = self.stored["nexthop"]
        return of_kind.get((0, number)) or of_kind.get((1, number))

    def _delete_nexthop(self, nexthop: Nexthop) -> None:
        """With the routes over it; groups shrink, and go when they are empty."""
        self.stored["nexthop"].pop(nexthop.key, None)
        self._drop("route", lambda route: route.nhid == nexthop.id)
        for one in list(self.stored["nexthop"].values()):
            group = tuple(member for member in one.resource.group if member.id != nexthop.id)
            if group == one.resource.group:
                continue
            if group:
                smaller = one.resource.model_copy(update={"group": group})
                self.stored["nexthop"][one.resource.key] = Observed(smaller, one.marker)
            else:
                self._delete_nexthop(one.resource)

    def _apply_route(self, change: Change) -> None:
        route = change.resource
        assert isinstance(route, Route)
        there = self.stored["route"].get(route.key)
        if change.after is None:
            if there is not None and there.marker == PROTOCOL:
                del self.stored["route"][route.key]
            return
        self._need(route.dev, up=True)
        if route.nhid is not None and self._nexthop(route.nhid) is None:
            raise _error(errno.EINVAL)
        if there is not None and change.before is None:
            if there.resource != route:
                raise _error(errno.EEXIST)
            return
        self.stored["route"][route.key] = Observed(route, PROTOCOL)

    def _apply_rule(self, change: Change) -> None:
        rule = change.resource
        assert isinstance(rule, Rule)
        place = _place(rule, PROTOCOL)
        if change.after is None:
            self.stored["rule"].pop(place, None)
        else:
            self.stored["rule"][place] = Observed(rule, PROTOCOL)

    # WireGuard

    def _apply_wireguard(self, change: Change) -> None:
        wanted = change.resource
        assert isinstance(wanted, Wireguard)
        link = self.stored["link"].get((wanted.dev,))
        if change.after is None:
            if link is not None and link.marker == ALIAS:
                self.stored["wireguard"].pop(wanted.key, None)
            return
        if link is None or link.resource.type != "wireguard":
            raise _error(errno.ENODEV)
        for one in self.stored["wireguard"].values():
            if one.resource.dev != wanted.dev and one.resource.listen_port == wanted.listen_port:
                raise _error(errno.EADDRINUSE)
        there = self.stored["wireguard"].get(wanted.key)
        if there is not None and there.resource.private_key.fingerprint != wanted.private_key.fingerprint:
            for place, peer in self.stored["peer"].items():
                if peer.resource.dev == wanted.dev:
                    self.stored["peer"][place] = replace(peer, session=Session(peer.resource.endpoint, None))
        key = SecretRef(secret="private-key", fingerprint=wanted.private_key.fingerprint)
        stored = wanted.model_copy(update={"private_key": key, "fwmark": wanted.fwmark or None})
        self.stored["wireguard"][wanted.key] = Observed(stored)

    def _apply_peer(self, change: Change) -> None:
        before, wanted = change.before, change.resource
        assert isinstance(wanted, Peer) and (before is None or isinstance(before, Peer))
        link = self.stored["link"].get((wanted.dev,))
        if change.after is None:
            if link is not None and link.marker == ALIAS:
                self.stored["peer"].pop(wanted.key, None)
            return
        if link is None or link.resource.type != "wireguard":
            raise _error(errno.ENODEV)
        if link.marker != ALIAS:
            raise _error(errno.EPERM)
        there = self.stored["peer"].get(wanted.key)
        if there is None and before is not None:
            return  # updating what is gone does nothing, and says nothing
        endpoint = wanted.endpoint
        session = there.session if there else None
        if there is not None and (endpoint is None or (before is not None and before.endpoint == endpoint)):
            endpoint = there.resource.endpoint
        claimed = set(wanted.allowed_ips) - set(before.allowed_ips if before else ())
        self._take(wanted.dev, claimed)
        held = claimed | set(there.resource.allowed_ips) if there and before else claimed
        update = {"endpoint": endpoint, "allowed_ips": tuple(sorted(held))}
        stored = _as_kernel_sees(wanted).model_copy(update=update)
        age = session.handshake_age if session else None
        if there is not None and there.resource.preshared_key != stored.preshared_key:
            age = None
        self.stored["peer"][wanted.key] = Observed(stored, session=Session(endpoint, age))

    def _park(self, changes: Sequence[Change]) -> None:
        """What these changes leave to nobody is taken away last, from whoever has it by then."""
        for dev in {str(change.resource.key[0]) for change in changes}:
            self._take(dev, freed(change for change in changes if change.resource.key[0] == dev).keys())

    def _take(self, dev: str, prefixes: Set[str]) -> None:
        """The last peer that claims a prefix has it; the one before is not told."""
        if not prefixes:
            return
        for place, other in self.stored["peer"].items():
            peer = other.resource
            if peer.dev == dev and not prefixes.isdisjoint(peer.allowed_ips):
                left = tuple(prefix for prefix in peer.allowed_ips if prefix not in prefixes)
                self.stored["peer"][place] = replace(other, resource=peer.model_copy(update={"allowed_ips": left}))

    # Firewall, kernel parameters

    def _apply_firewall(self, change: Change) -> None:
        chain = change.resource
        assert isinstance(chain, Firewall)
        if change.after is None:
            self.stored["firewall"].pop(chain.key, None)
        else:
            self.stored["firewall"][chain.key] = Observed(chain, PREFIX)

    def _apply_sysctl(self, change: Change) -> None:
        wanted = change.resource
        assert isinstance(wanted, Sysctl)
        name = wanted.name
        if change.after is None:
            before = self.inventory.pop(name, None)
            if before is not None and name in self.parameters:
                self.parameters[name] = before
            return
        if name not in self.parameters:
            if not any(f"/{interface}/" in name for interface in self._interfaces()):
                raise _error(errno.ENOENT)
            self.parameters[name] = "0"
        self.inventory.setdefault(name, self.parameters[name])
        self.parameters[name] = " ".join(wanted.value.split())

    def _apply_service(self, change: Change) -> None:
        wanted = change.resource
        assert isinstance(wanted, Service)
        if change.after is None:
            self.stored["service"].pop(wanted.key, None)
        elif wanted.config.count("{") != wanted.config.count("}"):
            raise OSError(errno.EINVAL, f"{wanted.name} refuses its configuration")
        else:
            self.stored["service"][wanted.key] = Observed(wanted, SERVICES)


@dataclass(frozen=True)
class FakeDriver:
    """One kind of a fake host."""

    host: FakeHost
    kind: str

    def observe(self) -> list[Observed[Any]]:
        return self.host.observe(self.kind)

    def devices(self) -> set[str]:
        return {str(key[0]) for key, one in self.host.stored["link"].items() if one.resource.type == "wireguard"}

    def observe_on(self, devices: Collection[str]) -> list[Observed[Any]]:
        return [one for one in self.observe() if one.resource.dev in devices]

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        return self.host.apply(self.kind, changes)


_APPLY: dict[str, Callable[[FakeHost, Change], None]] = {
    "firewall": FakeHost._apply_firewall, "link": FakeHost._apply_link, "sysctl": FakeHost._apply_sysctl,
    "wireguard": FakeHost._apply_wireguard, "address": FakeHost._apply_address, "peer": FakeHost._apply_peer,
    "nexthop": FakeHost._apply_nexthop, "route": FakeHost._apply_route, "rule": FakeHost._apply_rule,
    "service": FakeHost._apply_service,
}  # fmt: skip


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _place(resource: Resource, marker: int | str | None) -> Key:
    """Where an object is stored. The kernel keeps two rules that differ in their protocol only."""
    return (*resource.key, str(marker)) if isinstance(resource, Rule) else resource.key


def _link_defaults(link: Link, known: Link | None = None) -> dict[str, Any]:
    """What the kernel fills in where a plan says nothing; members are shown from `masters`."""
    mtu = link.mtu or (known.mtu if known else 1420 if link.type == "wireguard" else 1500)
    group = link.group if link.group is not None else (known.group if known else 0)
    bond = link.bond or (known.bond if known else None)
    if link.type == "bond" and bond is None:
        bond = BondOptions.model_construct(None, mode="balance-rr", xmit_hash_policy="layer2", miimon=0)  # type: ignore[arg-type]
    return {"mtu": mtu, "group": group, "bond": bond, "members": ()}


def _as_kernel_sees(peer: Peer) -> Peer:
    """A peer without its name, with what is left of its preshared key."""
    secret = peer.preshared_key and SecretRef(secret="preshared-key", fingerprint=peer.preshared_key.fingerprint)
    return peer.model_copy(update={"name": "", "preshared_key": secret, "allowed_ips": tuple(sorted(peer.allowed_ips))})


def _type(nexthop: Nexthop) -> tuple[bool, int]:
    """What the kernel never changes of a nexthop: whether it is a group, and of how many buckets."""
    return bool(nexthop.group), nexthop.resilient.buckets if nexthop.resilient else 0


def _must_be_remade(before: Link, after: Link) -> bool:
    modes = {link.bond.mode for link in (before, after) if link.bond}
    return before.type != after.type or len(modes) > 1


def resources(observed: Iterable[Observed[Any]]) -> set[Resource]:
    """What was observed, without who owns it."""
    return {one.resource for one in observed}
