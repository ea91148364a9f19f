from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from compiler.shell.starter import STARTER
from schema.desired.base import Document
from schema.desired.bond import Bond
from schema.desired.client import Client, Clients
from schema.desired.exits import Exit, ExitGateway, ExitHealth
from schema.desired.fabric import Defaults, Deny, Fabric, Health, Link, Pools, Ports, Probe
from schema.desired.gateways import Gateways
from schema.desired.host import Host, Lan, Underlay
from schema.desired.secret import Secret
from schema.desired.site import Aws, Datacenter, Edge, Region
from schema.json_schema import schemas
from schema.load import load
from schema.text import Text, parse

ROOT = Path(__file__).parents[3]
KEY = "A" * 43 + "="
HOSTS = {"h": {"underlay": {"interface": "eth0"}}}


def test_the_schemas_checked_in_are_fresh() -> None:
    """`gitwan schema --out schema/json` writes them."""
    assert {path.name: path.read_text() for path in (ROOT / "schema" / "json").glob("*.json")} == schemas()


def documents() -> list[tuple[str, str, dict[str, object]]]:
    """Name, text and data of every document that we ship."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "sites").rglob("*.yaml")}
    texts |= {f"starter {name}": text for name, text in STARTER.items() if name.endswith(".yaml")}
    found = []
    for name, text in texts.items():
        read = parse(name, text.encode())
        assert isinstance(read, Text)
        found.append((name, text, read.data))
    return found


@pytest.mark.parametrize(("name", "text", "data"), documents(), ids=lambda value: str(value)[:40])
def test_what_we_ship_is_valid_by_our_own_schema(name: str, text: str, data: dict[str, object]) -> None:
    kind = next(kind for kind in ("fabric", "site", "clients", "secret") if kind in data)
    jsonschema.validate(data, json.loads(schemas()[f"{kind}.json"]))


def test_a_mistake_is_one_by_the_schema_too() -> None:
    site = {"site": "a", "kind": "edge", "hosts": {"h": {"underlay": {"interface": "eth0", "adresses": "dhcp"}}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(site, json.loads(schemas()["site.json"]))


def test_every_example_that_people_write_names_the_schema_of_its_kind() -> None:
    for path in set((ROOT / "sites").rglob("*.yaml")) - set((ROOT / "sites" / "secrets").iterdir()):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        target = (path.parent / first.partition("$schema=")[2]).resolve()
        assert target.exists(), path
        assert f"\n{target.stem}:" in path.read_text(), path


LEAST: dict[type[Document], dict[str, object]] = {
    Aws: {"region": "eu-west-1", "vpc": "vpc-0aa11", "cidr": "10.1.0.0/16"},
    Bond: {"members": ["eno1"]},
    Client: {"public_key": KEY, "gateway": "a"},
    Clients: {"clients": {"laptop": {"public_key": KEY, "gateway": "a"}}},
    Datacenter: {"site": "a", "kind": "datacenter", "hosts": HOSTS},
    Defaults: {},
    Deny: {"from": "a", "to": "b"},
    Edge: {"site": "a", "kind": "edge", "hosts": HOSTS},
    Exit: {"provider": "pia", "credentials": "login"},
    ExitGateway: {"endpoint": "192.0.2.1:51820", "public_key": KEY, "addresses": "10.2.0.2"},
    ExitHealth: {},
    Fabric: {"fabric": "a", "version": 1},
    Gateways: {"hosts": ["a", "b"]},
    Health: {},
    Host: {"underlay": {"interface": "eth0"}},
    Lan: {"addresses": ["10.0.0.1/24"]},
    Link: {"between": ["a", "b"]},
    Pools: {},
    Ports: {},
    Probe: {"ping": "10.0.0.1"},
    Region: {
        "site": "a", "kind": "region", "hosts": HOSTS,
        "aws": {"region": "eu-west-1", "vpc": "vpc-0aa11", "cidr": "10.1.0.0/16"},
    },
    Secret: {"secret": "a", "kind": "psk", "fingerprint": "f", "digest": "0" * 32, "recipients": {}},
    Underlay: {"interface": "eth0"},
}  # fmt: skip
"""Each model, and the least that a document has to say of it."""


def models() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Model -> its JSON Schema, and the whole JSON Schema that it is a part of."""
    found = {}
    for text in schemas().values():
        whole = json.loads(text)
        for part in (whole, *whole.get("$defs", {}).values()):
            for one in (part, *part.get("anyOf", [])):
                if "properties" in one:
                    found[one["title"]] = (one, whole)
    return found


def defaults() -> list[tuple[str, str, object]]:
    """Model, key and default of every key that has a default in a JSON Schema."""
    return [
        (name, key, shown["default"])
        for name, (model, _) in models().items()
        for key, shown in model["properties"].items()
        if "default" in shown
    ]


def test_every_model_is_in_a_schema() -> None:
    assert models().keys() == {model.__name__ for model in LEAST}


@pytest.mark.parametrize(("name", "key", "default"), defaults(), ids=lambda value: str(value)[:40])
def test_a_default_can_be_written_out(name: str, key: str, default: object) -> None:
    """Editors insert it: the schema and the model accept it, and it means what nothing written means."""
    model, least = next((model, least) for model, least in LEAST.items() if model.__name__ == name)
    written = {**least, key: default}
    part, whole = models()[name]
    jsonschema.validate(written, {**part, "$defs": whole.get("$defs", {})})
    short, long = model.model_validate(least), model.model_validate(written)
    field = next(field for field, info in model.model_fields.items() if (info.alias or field) == key)
    if getattr(short, field) is not None:  # what has no value of its own gets this one from whoever reads it
        assert long == short


def test_a_fabric_with_every_default_written_out_is_valid() -> None:
    shown = json.loads(schemas()["fabric.json"])["properties"]
    document = {"fabric": "a", "version": 1} | {k: v["default"] for k, v in shown.items() if "default" in v}
    _, problems = load({"fabric.yaml": json.dumps(document).encode()})
    assert problems == []


def test_defaults_are_what_people_write() -> None:
    found = {(name, key): default for name, key, default in defaults()}
    assert found["Exit", "hold"] == "60s" and found["Exit", "cool_down"] == "5m"
    assert found["Health", "interval"] == "200ms" and found["Health", "loss"] == "20%"
    assert found["ExitHealth", "degraded"] == "10x" and found["Fabric", "deadline"] == "60s"
    assert found["Pools", "links"] == ["10.255.0.0/16", "fd00:255::/48"] and found["Fabric", "marks"] == "0x55/0xff"


@pytest.mark.parametrize("name", models())
def test_every_key_has_a_description_of_whole_sentences(name: str) -> None:
    model, _ = models()[name]
    for key, shown in {"": model, **model["properties"]}.items():
        text = shown.get("description", "")
        assert re.match(r"[A-Z`]|gitwan ", text) and text.endswith(".") and "\n" not in text, (name, key, text)


@pytest.mark.parametrize("name", models())
def test_a_list_behind_a_validator_has_a_minimum_of_items(name: str) -> None:
    def walk(part: object) -> None:
        if isinstance(part, dict):
            assert not (part.get("type") == "array" and "minLength" in part), (name, part)
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            walk(inner)

    walk(models()[name][0])
