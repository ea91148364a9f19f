"""Public keys: one for each host, none twice. A host without one is left out, and does not stop the others."""

from __future__ import annotations

from compiler.fabric import Fabric
from schema.problem import Place


def take_keys(fabric: Fabric) -> None:
    owner: dict[str, tuple[str, Place]] = {}
    for name, node in sorted(fabric.nodes.items()):
        if name not in fabric.desired.keys:
            path = f"keys/{name}.pub"
            # A file that is there and no key has a problem of its own.
            if path not in fabric.desired.paths:
                hint = f"run `gitwan keys` on {name} and commit its line as {path}; until then it is left out"
                fabric.problem("GW023", node.place(key=True), f"{name} has no key: {path} is missing", hint)
            continue
        place, node.key = fabric.desired.keys[name]
        _once(fabric, owner, node.key, name, place)
    for name, (place, _) in sorted(fabric.desired.keys.items()):
        if name not in fabric.nodes:
            fabric.warning(
                "GW026", place, f"a key of {name!r}, which is no host", "remove the file, or name the host so"
            )
    for name, roamer in sorted(fabric.clients.items()):
        _once(fabric, owner, roamer.model.public_key, name, roamer.doc.place("public_key"))


def _once(fabric: Fabric, owner: dict[str, tuple[str, Place]], key: str, name: str, place: Place) -> None:
    if key in owner:
        other, first = owner[key]
        hint = "a WireGuard key belongs to one machine: make a new one for the other"
        fabric.problem("GW025", place, f"{name} has the key of {other}", hint, (first, f"the key of {other}"))
    owner[key] = (name, place)
