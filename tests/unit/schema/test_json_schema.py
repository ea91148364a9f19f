from __future__ import annotations

from pathlib import Path

from schema.json_schema import schemas

ROOT = Path(__file__).parents[3]


def test_the_schemas_checked_in_are_fresh() -> None:
    """`gitwan schema --out schema/json` writes them."""
    assert {path.name: path.read_text() for path in (ROOT / "schema" / "json").glob("*.json")} == schemas()


def test_every_example_names_the_schema_of_its_kind() -> None:
    for path in (ROOT / "sites").rglob("*.yaml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        target = (path.parent / first.partition("$schema=")[2]).resolve()
        assert target.exists(), path
        assert f"\n{target.stem}:" in path.read_text(), path
