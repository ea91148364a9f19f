"""The inventory on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.state.inventory import Inventory, InventoryError


def test_it_survives_and_keeps_the_first_value(tmp_path: Path) -> None:
    path = tmp_path / "new" / "inventory.json"
    inventory = Inventory(path)
    inventory.record("b", "1")
    inventory.record("a", "0")
    inventory.record("a", "7")
    again = Inventory(path)
    assert again.names() == ["a", "b"]
    assert (again.get("a"), again.get("none")) == ("0", None)
    again.forget("a")
    again.forget("none")
    assert Inventory(path).names() == ["b"]
    assert [one.name for one in path.parent.iterdir()] == ["inventory.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2, "values": {}}', '{"version": 1, "values": {"a": 1}}']
)
def test_a_corrupt_one_is_not_taken_for_an_empty_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "inventory.json"
    path.write_text(content)
    with pytest.raises(InventoryError, match=str(path)):
        Inventory(path)
