"""Reads a repository: its files (path -> bytes) become a `Documents` and a list of all problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from schema.desired import DOCUMENTS, Clients, Document, Documents, Fabric, Located, Secret, Site
from schema.desired.secret import recipient
from schema.input import LOCK, is_input, is_refused
from schema.lock import parse_lock
from schema.plan.base import PublicKey
from schema.plan.fingerprint import sealed_digest
from schema.problem import Place, Problem
from schema.quiet import quiet_gc
from schema.text import Text, parse

_KEY = TypeAdapter(PublicKey)


def load(files: Mapping[str, bytes], special: Mapping[str, str] | None = None) -> tuple[Documents, list[Problem]]:
    """Read all files. `special` lists paths that are not plain files: path -> `symlink` or `submodule`.

    Never raises for bad input. Each unreadable document is missing from the result and has a problem.
    """
    desired, problems = Documents(), _special(special or {})
    with quiet_gc():
        for path in sorted(files):
            if path == LOCK:
                desired.lock, found = parse_lock(path, files[path])
                problems += found
            elif path.startswith("keys/") and path.endswith(".age"):
                problems += _recipient(desired, path, files[path])
            elif path.startswith("keys/"):
                problems += _key(desired, path, files[path])
            elif path.startswith("secrets/") and path.endswith(".age"):
                name = path.removeprefix("secrets/").removesuffix(".age")
                desired.sealed[name] = sealed_digest(files[path])
            elif is_input(path):
                problems += _document(desired, path, files[path])
    if desired.fabric is None and not problems:
        hint = (
            "`gitwan init` writes a small working repository" if not files else "write fabric.yaml, or give its folder"
        )
        problems.append(Problem("GW014", Place("fabric.yaml"), "there is no document that begins with `fabric:`", hint))
    return desired, problems


def _special(special: Mapping[str, str]) -> list[Problem]:
    codes = {"symlink": ("GW006", "a symbolic link"), "submodule": ("GW007", "a submodule")}
    hint = "gitwan reads plain files only: put the content itself here"
    return [
        Problem(codes[kind][0], Place(path), f"{codes[kind][1]} in the repository", hint)
        for path, kind in sorted(special.items())
        if is_refused(path, kind)
    ]


def _key(desired: Documents, path: str, content: bytes) -> list[Problem]:
    host = path.removeprefix("keys/").removesuffix(".pub")
    text = content.decode("ascii", "replace").strip()
    try:
        desired.keys[host] = (Place(path, 1, 1), _KEY.validate_python(text))
    except ValidationError:
        name, next_ = host.partition(".")[::2]
        hint = f"put the one line that `gitwan keys{' next' if next_ else ''}` prints on {name} into this file"
        return [Problem("GW024", Place(path, 1, 1), "not a WireGuard public key", hint)]
    return []


def _recipient(desired: Documents, path: str, content: bytes) -> list[Problem]:
    holder = path.removeprefix("keys/").removesuffix(".age")
    try:
        found = recipient(content.decode("ascii", "replace").strip())
    except ValueError as error:
        hint = f"put the one line that `gitwan keys recipient` prints on {holder}, or an SSH host key, into this file"
        return [Problem("GW086", Place(path, 1, 1), str(error), hint)]
    desired.recipients[holder] = (Place(path, 1, 1), found)
    return []


def _document(desired: Documents, path: str, content: bytes) -> list[Problem]:
    text = parse(path, content)
    if isinstance(text, Problem):
        return [text]
    model = _model_of(text)
    if isinstance(model, Problem):
        return [model]
    try:
        document = model.model_validate(text.data)
    except ValidationError as error:
        return [_explain(text, model, details) for details in error.errors(include_url=False)]
    return _keep(desired, document, text)


def _model_of(text: Text) -> type[Document] | Problem:
    data = text.data
    names = ", ".join(f"`{name}:`" for name in DOCUMENTS)
    if not isinstance(data, dict):
        return Problem("GW009", text.place(), "not a mapping with keys", f"a document has one of the keys {names}")
    kind = next((name for name in DOCUMENTS if name in data), None)
    if kind is None:
        near = _near(next(iter(data), ""), DOCUMENTS)
        hint = near or f"a document has one of the keys {names}; what is not gitwan's goes into a hidden folder"
        return Problem("GW009", text.place(), "not a document of gitwan", hint)
    chooser, models = DOCUMENTS[kind]
    if not chooser:
        return models[""]
    choice = data.get(chooser)
    if isinstance(choice, str) and choice in models:
        return models[choice]
    if choice is None:
        return Problem("GW011", text.place(), f"`{chooser}` is missing", f"it is one of {', '.join(models)}")
    hint = _near(str(choice), models) or f"it is one of {', '.join(models)}"
    return Problem("GW012", text.place((chooser,)), f"`{chooser}: {_short(choice)}` is not known", hint)


def _keep(desired: Documents, document: Document, text: Text) -> list[Problem]:
    if isinstance(document, Fabric):
        if desired.fabric is not None:
            first = ((desired.fabric.place("fabric"), "the first one"),)
            return [Problem("GW015", text.place(("fabric",)), "a second fabric", "a repository has one", first)]
        desired.fabric = Located(document, text)
    elif isinstance(document, Clients):
        desired.clients += [(name, Located(c, text, ("clients", name))) for name, c in document.clients.items()]
    elif isinstance(document, Secret):
        desired.secrets.append(Located(document, text))
    else:
        desired.sites.append(Located(cast(Site, document), text))
    return []


def _explain(text: Text, model: type[Document], details: ErrorDetails) -> Problem:
    """One of pydantic's errors as a problem, in gitwan's words and with its place."""
    # pydantic adds the names of union members and `[key]` to a location. They are not in the text.
    loc = tuple(step for step in details["loc"] if step != "[key]" and _in_text(step))
    name = ".".join(str(step) for step in loc)
    match details["type"]:
        case "extra_forbidden":
            known = _fields_at(model, loc[:-1])
            near = _near(str(loc[-1]), known)
            hint = near or (f"known here: {', '.join(sorted(known))}" if known else "remove it")
            return Problem("GW010", text.place(loc, key=True), f"unknown key `{loc[-1]}`", hint)
        case "missing":
            return Problem("GW011", text.place(loc[:-1]), f"`{loc[-1]}` is missing", f"write it as `{name}:`")
        case "value_error":
            return Problem("GW012", text.place(loc), f"{name}: {details['msg'].removeprefix('Value error, ')}", "")
        case kind:
            code = "GW013" if kind.endswith(("_type", "_parsing")) else "GW012"
            key = "[key]" in details["loc"]
            message = f"{name}: {_wanted(details)}, found {_short(details['input'])}"
            return Problem(code, text.place(loc, key=key), message, _pattern_hint(details))


def _wanted(details: ErrorDetails) -> str:
    if details["type"] == "string_pattern_mismatch":
        return "not of the form that belongs here"
    words = details["msg"].replace("valid tuple", "list").replace("valid dictionary", "mapping of keys to values")
    return words[0].lower() + words[1:]


def _in_text(step: str | int) -> bool:
    return isinstance(step, int) or not step.startswith(
        ("function-", "literal[", "tuple[", "constrained-", "is-instance")
    )


def _pattern_hint(details: ErrorDetails) -> str:
    hints = {
        "{42}": "a WireGuard public key is 44 characters of base64, as `wg pubkey` and `gitwan keys` print it",
        "vpc-": "a VPC's id, such as vpc-0aa11",
        "(-[a-z]+)": "an AWS region, such as eu-west-1",
        "[a-z0-9-]{0,62}": "names have lower-case letters, digits and hyphens",
        "https?": "a URL, such as http://10.1.0.10/health",
        "{1,15}": "an interface's name has 1 to 15 bytes, without spaces, slashes and colons",
    }
    return next((hint for pattern, hint in hints.items() if pattern in details["msg"]), "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _near(word: str, known: Any) -> str:
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    """The keys that the mapping at `loc` may have; empty if it may have any key."""
    if not loc:
        return {field.alias or name for name, field in model.model_fields.items()}
    step, rest = loc[0], loc[1:]
    field = next((f for n, f in model.model_fields.items() if (f.alias or n) == step), None)
    if field is None:
        return set()
    for inner in _models_in(field.annotation):
        # A mapping or list between this field and the model uses one step of the location.
        takes = 0 if inner is field.annotation or (inner in get_args(field.annotation) and not _container(field)) else 1
        return _fields_at(inner, rest[takes:])
    return set()


def _container(field: Any) -> bool:
    return getattr(field.annotation, "__origin__", None) in (dict, tuple, list)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
