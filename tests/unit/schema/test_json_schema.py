from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from compiler.shell.starter import STARTER
from schema.json_schema import schemas
from schema.text import Text, parse

ROOT = Path(__file__).parents[3]


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
