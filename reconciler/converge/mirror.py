"""The kernel's state at the last reading, updated with the changes acknowledged since. Pure.

Small changes are compared with it, so that one more peer does not cost a dump of all peers. Loops and status read it
too. The next reading replaces it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from reconciler.converge.diff import Kinds, Observation, ResourceName
from reconciler.kinds.base import Observed, Session
from schema.plan import Change, Key, Peer

Seen = dict[Key, Observed[Any]]


class Mirror:
    """Observed objects by kind and key; for kinds that are dumped by device, also by device."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._seen: dict[str, dict[str, Seen]] = {}
        self._doubted: set[str] = set()

    def take(self, observation: Observation, devices: Collection[str] | None = None) -> None:
        """Store a reading of all devices or of some."""
        if devices is None:
            self._doubted -= observation.keys()
        for name, seen in observation.items():
            by_device = self._kinds[name].dumped_by == "device"
            parts: dict[str, Seen] = {device: {} for device in devices or ()} if by_device else {"": {}}
            owns = self._kinds[name].owns
            for one in seen:
                key = one.resource.key
                part = parts.setdefault(str(key[0]) if by_device else "", {})
                if key not in part or owns(one):
                    part[key] = one
            if by_device and devices is not None:
                self._seen[name] = {**self._seen.get(name, {}), **parts}
            else:
                self._seen[name] = parts

    def acknowledge(self, changes: Iterable[Change]) -> None:
        """Record changes that the kernel has made."""
        for change in changes:
            resource = change.resource
            kind = self._kinds[resource.kind]
            parts = self._seen.get(kind.name)
            if parts is None:
                continue
            key = resource.key
            part = parts.setdefault(str(key[0]) if kind.dumped_by == "device" else "", {})
            before = part.pop(key, None)
            if change.after is not None:
                session = before.session if before else None
                if session is None and isinstance(resource, Peer):
                    session = Session(resource.endpoint, None) if resource.endpoint else None
                part[key] = Observed(resource, kind.marker, session)

    def doubt(self, kinds: Iterable[str]) -> None:
        """Mark kinds as unreliable: they must be read again before use."""
        self._doubted.update(kinds)

    def knows(self, kind: str) -> bool:
        return kind in self._seen and kind not in self._doubted

    def of(self, names: Iterable[ResourceName]) -> dict[str, list[Observed[Any]]]:
        """The known state of these resources, with an entry for each of their kinds."""
        found: dict[str, list[Observed[Any]]] = {}
        for kind, key in names:
            entry = found.setdefault(kind, [])
            if (one := self.get(kind, key)) is not None:
                entry.append(one)
        return found

    def get(self, kind: str, key: Key) -> Observed[Any] | None:
        part = str(key[0]) if self._kinds[kind].dumped_by == "device" else ""
        return self._seen.get(kind, {}).get(part, {}).get(key)

    def kind(self, kind: str) -> Sequence[Observed[Any]]:
        """All known objects of a kind."""
        return [one for part in list(self._seen.get(kind, {}).values()) for one in list(part.values())]

    def on(self, kind: str, device: str) -> Seen:
        """The known objects of a kind on one device, as a live view."""
        return self._seen.get(kind, {}).get(device, {})

    def devices(self, kind: str) -> Collection[str]:
        """The devices at the last reading."""
        return list(self._seen.get(kind, {}))

    def counts(self, kind: str, devices: Iterable[str]) -> Mapping[str, int]:
        """The number of objects of a kind on each device."""
        return {device: len(self.on(kind, device)) for device in devices}
