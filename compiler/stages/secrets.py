"""Secrets: which hosts need which, and that each is encrypted to them. Nothing is decrypted here."""

from __future__ import annotations

from compiler.fabric.model import Fabric
from schema.desired import Located, Secret
from schema.plan import SecretRef
from schema.problem import Place

Known = dict[str, Located[Secret]]


def take_secrets(fabric: Fabric) -> None:
    known = _index(fabric)
    _preshared(fabric, known)
    _clients_key(fabric, known)
    _credentials(fabric, known)
    for name, hosts in sorted(fabric.needs.items()):
        if name in known:
            _readable(fabric, known[name], hosts)
    for name, doc in sorted(known.items()):
        _whole(fabric, doc)
        if name not in fabric.needs and doc.model.kind != "value":
            fabric.warning("GW084", doc.place("secret"), f"nothing uses the secret {name}", "use it, or remove it")
    for holder, (place, _) in sorted(fabric.desired.recipients.items()):
        if not holder.startswith("people/") and holder not in fabric.nodes:
            hint = "name it like a host, or put it in keys/people/"
            fabric.warning("GW026", place, f"a recipient {holder!r}, which is no host", hint)


def _index(fabric: Fabric) -> Known:
    known: Known = {}
    for doc in fabric.desired.secrets:
        name = doc.model.secret
        if name in known:
            hint = "a merge may have left it: remove one of them"
            first = (known[name].place("secret"), "the first one")
            fabric.problem("GW020", doc.place("secret"), f"the secret {name!r} stands there twice", hint, first)
        known.setdefault(name, doc)
    return known


def _preshared(fabric: Fabric, known: Known) -> None:
    doc = fabric.desired.fabric
    for i, link in enumerate(doc.model.links if doc else ()):
        if link.psk is None or doc is None:
            continue
        place = doc.place("links", i, "psk")
        reference = _reference(fabric, known, link.psk, "psk", place)
        a, b = (fabric.ends(name) for name in link.between)
        for edge in fabric.edges:
            if edge.kind == "link" and ((edge.a in a and edge.b in b) or (edge.a in b and edge.b in a)):
                edge.psk = reference
                _need(fabric, link.psk, (edge.a.name, edge.b.name), place)


def _clients_key(fabric: Fabric, known: Known) -> None:
    doc = fabric.desired.fabric
    if doc is None or doc.model.clients_key is None:
        return
    name, place = doc.model.clients_key, doc.place("clients_key")
    reference = _reference(fabric, known, name, "key", place)
    for node in fabric.nodes.values():
        if node.clients and node.key:
            node.clients_key = reference
            _need(fabric, name, (node.name,), place)


def _credentials(fabric: Fabric, known: Known) -> None:
    for node in fabric.nodes.values():
        for exit in node.exits:
            if (name := exit.model.credentials) is not None:
                place = node.place("exits", exit.name, "credentials")
                exit.credentials = _reference(fabric, known, name, "value", place)
                _need(fabric, name, (node.name,), place)


def _need(fabric: Fabric, secret: str, hosts: tuple[str, ...], place: Place) -> None:
    for host in hosts:
        fabric.needs[secret].setdefault(host, place)


def _reference(fabric: Fabric, known: Known, name: str, kind: str, place: Place) -> SecretRef | None:
    doc = known.get(name)
    fabric.needs.setdefault(name, {})
    if doc is None:
        hint = f"`gitwan secret add {name} --generate {kind}` makes it"
        fabric.problem("GW080", place, f"there is no secret {name!r}", hint)
        return None
    if doc.model.kind != kind:
        hint = f"here belongs one of the kind {kind}"
        other = (doc.place("kind"), "its kind")
        fabric.problem("GW081", place, f"the secret {name} is of the kind {doc.model.kind}", hint, other)
        return None
    return SecretRef(secret=name, fingerprint=doc.model.fingerprint)


def _readable(fabric: Fabric, doc: Located[Secret], hosts: dict[str, Place]) -> None:
    name = doc.model.secret
    for host, place in sorted(hosts.items()):
        own = fabric.desired.recipients.get(host)
        where = (place, f"{host} needs it here")
        if own is None:
            hint = (
                f"run `gitwan keys recipient` on {host}, commit its line as keys/{host}.age, then `gitwan secret rotate"
            )
            message = f"{host} needs the secret {name}, and nothing can be encrypted to it: keys/{host}.age is missing"
            fabric.problem("GW083", doc.place("recipients"), message, f"{hint} {name}`", where)
        elif doc.model.recipients.get(host) != own[1]:
            older = host in doc.model.recipients
            message = f"the secret {name} is {'encrypted to an older key of' if older else 'not encrypted to'} {host}"
            fabric.problem("GW082", doc.place("recipients"), message, f"run `gitwan secret rotate {name}`", where)


def _whole(fabric: Fabric, doc: Located[Secret]) -> None:
    name = doc.model.secret
    digest = fabric.desired.sealed.get(name)
    if digest is None:
        hint = "commit both files that `gitwan secret` wrote"
        fabric.problem("GW085", doc.place("secret"), f"secrets/{name}.age is missing", hint)
    elif digest != doc.model.digest:
        hint = (
            f"a merge may have mixed two versions: take both files from one side, or run `gitwan secret rotate {name}`"
        )
        fabric.problem("GW085", doc.place("digest"), f"secrets/{name}.age is not the file that this describes", hint)
