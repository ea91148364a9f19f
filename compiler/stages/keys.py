"""Public keys: one per host, or two during a rotation. A host without a key is left out, and stops no other host."""

from __future__ import annotations

from compiler.fabric.model import Fabric, Node
from schema.problem import Place

Numbered = dict[int, tuple[Place, str]]


def take_keys(fabric: Fabric) -> None:
    owner: dict[str, tuple[str, Place]] = {}
    found = _by_host(fabric)
    for name, node in sorted(fabric.nodes.items()):
        keys = found.pop(name, {})
        if not keys:
            path = f"keys/{name}.pub"
            hint = f"run `gitwan keys` on {name} and commit its line as {path}; until then it is left out"
            fabric.problem("GW023", node.place(key=True), f"{name} has no key: {path} is missing", hint)
            continue
        _take(fabric, node, keys)
        for place, key in keys.values():
            _once(fabric, owner, key, name, place)
    for name, keys in sorted(found.items()):
        for place, _ in keys.values():
            hint = "remove the file, or name the host so"
            fabric.warning("GW026", place, f"a key of {name!r}, which is no host", hint)
    for name, roamer in sorted(fabric.clients.items()):
        _once(fabric, owner, roamer.model.public_key, name, roamer.doc.place("public_key"))


def _by_host(fabric: Fabric) -> dict[str, Numbered]:
    """Host -> number -> key: `keys/nas.pub` is the first key of nas, `keys/nas.2.pub` its second."""
    found: dict[str, Numbered] = {}
    for stem, located in sorted(fabric.desired.keys.items()):
        host, _, number = stem.partition(".")
        if not number:
            found.setdefault(host, {})[1] = located
        elif number.isdecimal() and number == str(int(number)) and int(number) > 1:
            found.setdefault(host, {})[int(number)] = located
        else:
            found[stem] = {1: located}
    return found


def _take(fabric: Fabric, node: Node, keys: Numbered) -> None:
    """Set the older key as the one in use, and the newer one as its successor."""
    first, *later = sorted(keys)
    node.number, node.key = first, keys[first][1]
    if later:
        node.next_key = keys[later[0]][1]
    if later not in ([], [first + 1]):
        hint = "`gitwan keys rotate` counts on by one; finish one rotation before the next"
        wrong = later[-1]
        message = f"{node.name} has keys of the numbers {first}, {', '.join(map(str, later))}"
        fabric.problem("GW087", keys[wrong][0], message, hint)


def _once(fabric: Fabric, owner: dict[str, tuple[str, Place]], key: str, name: str, place: Place) -> None:
    if key in owner:
        other, first = owner[key]
        hint = "a WireGuard key belongs to one machine: make a new one for the other"
        message = f"{name} has the key of {other}" if name != other else f"{name} has one key twice"
        fabric.problem("GW025", place, message, hint, (first, f"the key of {other}"))
    owner[key] = (name, place)
