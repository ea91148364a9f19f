"""Allocates addresses that are not written: from the lock if it names them, otherwise the next free ones."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.fabric.model import Fabric
from schema.input import LOCK
from schema.ip import BITS, Interface, Prefix, address_text
from schema.lock import Entry
from schema.problem import Place


def allocate_addresses(fabric: Fabric) -> None:
    """Allocate one address per family of the pool to each host on a tunnel, client, and exit through our sites."""
    doc = fabric.desired.fabric
    if doc is None:
        return
    pools = doc.model.pools
    members = {node.name for node in fabric.backbone}
    ends = {node.name for link in doc.model.links for name in link.between for node in fabric.ends(name)}
    links = _Pool(fabric, "links", pools.links)
    backbone = _Pool(fabric, "backbone", pools.backbone)
    clients = _Pool(fabric, "clients", pools.clients)
    exits = _Pool(fabric, "exits", pools.exits)
    for name, roamer in sorted(fabric.clients.items()):
        for i, interface in enumerate(roamer.model.addresses):
            if clients.pin(name, interface, roamer.doc.place("addresses", i)):
                roamer.address[interface.version] = interface.value
    wants: list[tuple[_Pool, str, str, dict[int, int]]] = [
        (backbone if name in members else links, "address", name, node.address)
        for name, node in sorted(fabric.nodes.items())
        if name in ends or name in members or node.clients
    ]
    wants += [(clients, "client", name, roamer.address) for name, roamer in sorted(fabric.clients.items())]
    wants += [
        (exits, "exit", f"{name}/{exit.name}", exit.address)
        for name, node in sorted(fabric.nodes.items())
        for exit in node.exits
        if exit.gateways
    ]
    # All locked entries keep their numbers before any new number is given.
    for fresh in (False, True):
        for pool, kind, name, address in wants:
            for version in pool.versions:
                if version not in address:
                    value = pool.new((kind, name, str(version))) if fresh else pool.locked((kind, name, str(version)))
                    if value is not None:
                        address[version] = value


class _Pool:
    def __init__(self, fabric: Fabric, name: str, prefixes: tuple[Prefix, ...]) -> None:
        self.fabric, self.name, self.prefixes = fabric, name, prefixes
        self.versions = sorted({prefix.version for prefix in prefixes})
        self.used: dict[tuple[int, int], str] = {}
        self.free = {version: self._candidates(version) for version in self.versions}
        self.exhausted: set[int] = set()

    def pin(self, name: str, interface: Interface, place: Place) -> bool:
        if not self._inside(interface.version, interface.value):
            hint = f"the pool of {self.name} has {', '.join(map(str, self.prefixes))}"
            self.fabric.problem("GW033", place, f"{interface.address} is not in the pool", hint)
            return False
        other = self.used.setdefault((interface.version, interface.value), name)
        if other != name:
            self.fabric.problem("GW030", place, f"{interface.address} is {other}'s", "give one of them another address")
        return other == name

    def locked(self, entry: Entry) -> int | None:
        value = self.fabric.desired.lock.get(entry)
        version = int(entry[2])
        if value is None or not self._inside(version, value):
            return None
        if (version, value) in self.used:
            message = f"{address_text(version, value)}, locked for {entry[1]}, is {self.used[version, value]}'s"
            self.fabric.warning("GW051", Place(LOCK), message, f"{entry[1]} gets another: run `gitwan lock`")
            return None
        return self._take(entry, value)

    def new(self, entry: Entry) -> int | None:
        version = int(entry[2])
        for value in self.free[version]:
            if (version, value) not in self.used:
                return self._take(entry, value)
        if version not in self.exhausted:
            self.exhausted.add(version)
            doc = self.fabric.desired.fabric
            assert doc is not None
            size = sum(1 << (BITS[version] - p.length) for p in self.prefixes if p.version == version)
            message = f"the IPv{version} pool of {self.name} is exhausted: {size} addresses are not enough"
            hint = f"add a prefix to `pools.{self.name}`; what is allocated stays"
            self.fabric.problem("GW034", doc.place("pools", self.name), message, hint)
        return None

    def _take(self, entry: Entry, value: int) -> int:
        self.used[int(entry[2]), value] = entry[1]
        self.fabric.lock[entry] = value
        return value

    def _inside(self, version: int, value: int) -> bool:
        return any(p.version == version and p.first < value <= p.last for p in self.prefixes)

    def _candidates(self, version: int) -> Iterator[int]:
        """Every address in order, except the first of a network and, for IPv4, the last."""
        for prefix in self.prefixes:
            if prefix.version == version:
                yield from range(prefix.first + 1, prefix.last + (0 if version == 4 else 1))
