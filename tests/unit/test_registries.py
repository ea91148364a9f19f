"""Each registry of kinds has each kind: one that is forgotten in one of them fails by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_args

import pytest

from compiler.render import NATIVE
from reconciler.kinds import KINDS
from reconciler.state.inventory import Inventory
from reconciler.system import Context, drivers
from schema.plan import RESOURCES, AnyResource, SecretRef
from tests.fakes import _APPLY, FakeHost


def secret(reference: SecretRef) -> bytes:
    raise LookupError(reference.secret)


def registries(folder: Path) -> dict[str, Collection[str]]:
    """Where a kind has to be known, and the kinds that are."""
    context = Context(secret=secret, inventory=Inventory(folder / "inventory.json"), services=folder / "services")
    union = get_args(get_args(AnyResource)[0])
    return {
        "schema.plan.AnyResource": [model.model_fields["kind"].default for model in union],
        "compiler.render.NATIVE": NATIVE,
        "reconciler.kinds.KINDS": KINDS,
        "reconciler.system.drivers": drivers(context),
        "tests.fakes.FakeHost.drivers": FakeHost().drivers(),
        "tests.fakes._APPLY": _APPLY,
    }


def differences(found: Mapping[str, Collection[str]]) -> list[str]:
    """What is missing, or known without being a kind, in words."""
    words = [f"{name} has no {kind}" for name, kinds in found.items() for kind in RESOURCES if kind not in kinds]
    words += [
        f"{name} has {kind}, which is no kind"
        for name, kinds in found.items()
        for kind in kinds
        if kind not in RESOURCES
    ]
    return words


def test_every_registry_has_every_kind(tmp_path: Path) -> None:
    assert differences(registries(tmp_path)) == []


def test_every_kind_is_called_what_its_model_says() -> None:
    assert {name: model.model_fields["kind"].default for name, model in RESOURCES.items()} == {n: n for n in RESOURCES}
    assert {name: kind.name for name, kind in KINDS.items()} == {name: name for name in KINDS}


@pytest.mark.parametrize("kind", RESOURCES)
def test_one_that_is_forgotten_is_named(kind: str, tmp_path: Path) -> None:
    for registry, kinds in registries(tmp_path).items():
        assert differences({registry: [one for one in kinds if one != kind]}) == [f"{registry} has no {kind}"]
        assert differences({registry: [*kinds, "qdisc"]}) == [f"{registry} has qdisc, which is no kind"]
