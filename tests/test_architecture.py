"""Which room may know which: the imports of every module against a table that gives the reason."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("schema", "compiler", "reconciler", "lab")
THIRD_PARTY = {
    "pydantic", "pydantic_core", "ruamel", "jinja2", "pyroute2", "git", "boto3", "grpc", "envoy_data_plane",
    "prometheus_client", "typer", "rich", "cryptography", "pyrage",
}  # fmt: skip

# (modules, what they may import of ours and of others, why). The longest prefix that fits counts.
TABLE: tuple[tuple[str, set[str], str], ...] = (
    ("schema", {"schema", "pydantic", "pydantic_core"}, "the contract must not depend on those who keep it"),
    ("schema.text", {"schema", "ruamel"}, "the one place where YAML is read"),
    ("compiler", {"schema", "compiler", "jinja2"}, "pure: the same input gives the same plan anywhere"),
    ("compiler.shell.inputs", {"schema", "git"}, "the one place of this room that reads the disk and git"),
    ("compiler.shell.vault", {"schema", "cryptography", "pyrage"},
     "the one place of this room that ever holds a secret's value, and it knows nothing of plans"),
    ("compiler.cli.secrets", {"schema", "compiler", "typer", "pydantic"}, "a command line talks to its own room only"),
    ("compiler.cli.routes", {"schema", "compiler", "typer"}, "a command line talks to its own room only"),
    ("compiler.cli.main", {"schema", "compiler", "typer"}, "a command line talks to its own room only"),
    ("reconciler", {"schema", "reconciler"}, "decisions stay testable without a kernel, git or a network"),
    ("reconciler.state.config", {"schema", "reconciler", "pydantic"}, "the host's own file has a form"),
    ("reconciler.state.store", {"schema", "reconciler", "pydantic"}, "a stored plan may be spoilt, and then says so"),
    ("reconciler.process.metrics", {"schema", "reconciler", "prometheus_client"}, "metrics in one place"),
    ("reconciler.loops.base", {"schema", "reconciler", "typer", "prometheus_client"},
     "a loop brings its metrics and its command line, which are named here for the types"),
    ("reconciler.loops.exits", {"schema", "reconciler", "typer", "prometheus_client"},
     "a loop brings its metrics and its command line"),
    ("reconciler.cli.agent", {"schema", "reconciler", "typer", "rich"}, "a command line talks to its own room only"),
    ("reconciler.cli.keys", {"reconciler", "typer"}, "a command line talks to its own room only"),
    ("reconciler.sources", {"schema", "reconciler", "git", "pydantic"}, "where plans come from"),
    ("reconciler.loops.exits.memory", {"schema", "reconciler", "pydantic"},
     "a kept tunnel may be spoilt, and is left out"),
    ("reconciler.loops.exits.providers.signature", {"cryptography"},
     "the one place that checks a provider's signature"),
    ("reconciler.system", {"schema", "reconciler.system", "reconciler.kinds", "reconciler.base", "cryptography"},
     "effects know resources, not who asked for them"),
    ("reconciler.system.service_files", {"schema", "reconciler.system", "reconciler.kinds", "reconciler.base.files"},
     "a daemon's configuration is a file that has to be whole"),
    ("reconciler.system.https", {"reconciler.base.web", "schema"}, "it sends what others have written"),
    ("reconciler.system.age", {"pyrage"}, "the one place of this room that decrypts"),
    ("lab.provider.authority", {"cryptography"}, "the twin's certificates are its own"),
    ("lab", {"schema", "compiler", "reconciler", "lab", "typer", "rich", "ruamel"}, "the twin uses what users use"),
)  # fmt: skip

# Standard modules that reach outside, and who alone may.
EFFECTS = {"socket", "subprocess", "os.environ", "time", "random", "secrets", "urllib", "http", "ctypes"}
IMPURE: dict[str, set[str]] = {
    "compiler": set(),
    "compiler.shell.vault": {"subprocess"},  # the user's editor
    "schema": {"socket"},  # inet_pton and inet_ntop, which are pure, live there
    "reconciler.kinds": set(),
}


# The rooms of two houses, the lowest floor first: a room knows those below it, and nobody above.
FLOORS = {
    "compiler": ("render", "fabric", "stages", "agentless", "plan", "compile", "worker", "review", "shell", "cli"),
    "reconciler": (
        "base", "kinds", "system", "state", "converge", "report", "sources", "cycle", "loops", "process", "cli",
    ),
}  # fmt: skip


def floor_of(module: str) -> tuple[str, int]:
    """The house that a module stands in, and the floor of its room there; -1 for a house without floors."""
    house, room = [*module.split("."), "", ""][:2]
    return house, FLOORS[house].index(room) if house in FLOORS and room else -1


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            found |= {
                f"{node.module}.{alias.name}" if _is_module(node.module, alias.name) else str(node.module)
                for alias in node.names
            }
    return found


def _is_module(package: str | None, name: str) -> bool:
    place = ROOT / str(package).replace(".", "/") / name
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports(path: Path) -> None:
    module = name_of(path)
    _, allowed, reason = max((row for row in TABLE if under(module, row[0])), key=lambda row: len(row[0]))
    for name in imports(path):
        ours = any(under(name, room) for room in (*ROOMS, "gitwan"))
        if (
            ours
            or name.split(".")[0] in THIRD_PARTY
            or name.split(".")[0] not in sys.stdlib_module_names | {"__future__"}
        ):
            assert any(under(name, prefix) for prefix in allowed), f"{module} imports {name}: {reason}"


@pytest.mark.parametrize("path", [p for p in modules() if any(under(name_of(p), room) for room in IMPURE)], ids=name_of)
def test_purity(path: Path) -> None:
    room = max((room for room in IMPURE if under(name_of(path), room)), key=len)
    reached = {name for name in imports(path) if name.split(".")[0] in EFFECTS} - IMPURE[room]
    assert not reached, f"{name_of(path)} reaches outside with {reached}"


@pytest.mark.parametrize("path", [p for p in modules() if floor_of(name_of(p))[1] >= 0], ids=name_of)
def test_no_room_imports_one_above_it(path: Path) -> None:
    house, floor = floor_of(name_of(path))
    wrong = sorted(name for name in imports(path) if (place := floor_of(name))[0] == house and place[1] > floor)
    assert not wrong, f"{name_of(path)} is in {FLOORS[house][floor]}, and imports what is above it: {', '.join(wrong)}"


@pytest.mark.parametrize("house", FLOORS)
def test_every_room_has_a_floor(house: str) -> None:
    there = {path.stem for path in (ROOT / house).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == set(FLOORS[house])
    assert len(FLOORS[house]) <= 12, "more than that nobody finds their way in"


def test_only_the_front_door_imports_the_lab() -> None:
    for path in modules():
        if not under(name_of(path), "lab"):
            assert not any(under(name, "lab") for name in imports(path)), name_of(path)


def test_no_dependency_brings_another_schema() -> None:
    """`schema` is also a distribution on PyPI; with both installed, one would hide the other."""
    names = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert "schema" not in names


def test_unit_tests_mirror_sources() -> None:
    """tests/unit/a/b/test_c.py tests a/b/c.py, so that a test is found where it is looked for."""
    unit = ROOT / "tests" / "unit"
    for path in unit.rglob("test_*.py"):
        relative = path.relative_to(unit)
        if relative.name in MIRRORLESS:
            continue
        source = ROOT / relative.parent / relative.name.removeprefix("test_")
        package = ROOT / relative.parent / relative.name.removeprefix("test_").removesuffix(".py")
        assert source.exists() or package.is_dir(), f"{relative} mirrors nothing"


MIRRORLESS = {
    "test_properties.py": "invariants of several modules together",
    "test_plug.py": "a loop that is written in a test, and given through the tuple only",
    "test_overlays.py": "what loops add and amend, from `wanted.py` down to a host",
    "test_registries.py": "every registry of kinds against the kinds that there are",
}
