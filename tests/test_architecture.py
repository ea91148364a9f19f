"""Which room may know which: the imports of every module against a table that gives the reason."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable
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
    ("reconciler.cli", {"schema", "reconciler", "typer"}, "a command line talks to its own house only"),
    ("reconciler.report.terminal", {"reconciler", "typer"}, "what the command lines of a host share"),
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

# What reaches outside: a module that calls itself pure in its docstring imports none of these, and no module that does.
EFFECTS = {
    "asyncio", "concurrent", "ctypes", "fcntl", "http", "multiprocessing", "os", "random", "secrets", "select",
    "shutil",
    "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
    "boto3", "git", "grpc", "prometheus_client", "pyroute2", "typer",
}  # fmt: skip
HARMLESS = {"urllib.parse"}
PURE_ROOMS: dict[str, set[str]] = {
    "compiler": set(),
    "compiler.shell": {"os", "tempfile", "shutil", "git", "subprocess", "typer"},
    "compiler.cli": {"typer", "shutil", "os"},
    "compiler.worker": {"os"},
    "schema": {"socket"},  # inet_pton and inet_ntop, which are pure, live there
    "reconciler.kinds": set(),
}
"""Rooms that are pure whatever their docstrings say, and what of EFFECTS their doors may have."""

DOUBLES = {
    "Exit": "what is written, and what a plan says of it: a loop knows only the second",
    "Fabric": "the document, and the network that the compiler makes of it",
    "Link": "a link between sites, and what iproute2 calls a link",
}
"""Class names that stand for two things, and why."""
LONGEST_FILE = 350


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
    return imports_of(path.read_text())


def imports_of(source: str) -> set[str]:
    """Everything that is imported anywhere in a module, but for what only types need."""
    tree = ast.parse(source)
    for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    skipped = {id(node) for block in for_types for node in ast.walk(block)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room is meant"
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
def test_a_module_imports_what_its_room_may(path: Path) -> None:
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


def reached(names: set[str]) -> set[str]:
    """What of these imports reaches outside."""
    return {name for name in names - HARMLESS if name.split(".")[0] in EFFECTS}


def impurities(source: str, allowed: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    """What a pure module imports that reaches outside, by itself or by one of our modules."""
    names = imports_of(source)
    wrong = {name for name in reached(names) if name.split(".")[0] not in allowed}
    ours = {name: PATHS[name] for name in names if name in PATHS and not under(name, "schema")}
    return wrong | {name for name, path in ours.items() if reached(imports(path))}


PATHS = {name_of(path): path for path in modules()}
PURE = [path for path in modules() if re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or "")]


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_a_module_that_calls_itself_pure_reaches_outside_by_no_door(path: Path) -> None:
    wrong = impurities(path.read_text())
    assert not wrong, f"{name_of(path)} calls itself pure, and reaches outside by {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if any(under(name_of(p), room) for room in PURE_ROOMS)], ids=name_of
)
def test_a_pure_room_has_no_other_door(path: Path) -> None:
    room = max((room for room in PURE_ROOMS if under(name_of(path), room)), key=len)
    wrong = {name for name in reached(imports(path)) if name.split(".")[0] not in PURE_ROOMS[room]}
    assert not wrong, f"{name_of(path)} reaches outside with {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    "planted", ["import socket", "import subprocess", "from reconciler.process.agent import Agent", "import os.path"]
)
def test_a_planted_effect_is_seen(planted: str) -> None:
    source = (ROOT / "reconciler" / "converge" / "diff.py").read_text()
    assert impurities(source) == set()
    assert impurities(source.replace("from dataclasses", f"{planted}\nfrom dataclasses", 1))


@pytest.mark.parametrize("path", [p for p in modules() if floor_of(name_of(p))[1] >= 0], ids=name_of)
def test_no_room_imports_one_above_it(path: Path) -> None:
    house, floor = floor_of(name_of(path))
    wrong = sorted(name for name in imports(path) if (place := floor_of(name))[0] == house and place[1] > floor)
    assert not wrong, f"{name_of(path)} is in {FLOORS[house][floor]}, and imports what is above it: {', '.join(wrong)}"


def test_a_planted_import_from_above_is_seen() -> None:
    names = imports_of("from reconciler.process.agent import Agent")
    assert any(floor_of(name)[1] > floor_of("reconciler.converge.diff")[1] for name in names)


@pytest.mark.parametrize("house", FLOORS)
def test_every_room_has_a_floor(house: str) -> None:
    there = {path.stem for path in (ROOT / house).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == set(FLOORS[house])
    assert len(FLOORS[house]) <= 12, "more than that nobody finds their way in"


def class_names(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Class or type alias -> the modules that define it."""
    found: dict[str, list[str]] = {}
    for module, source in sources:
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(module)
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name[0].isupper() and not name.isupper():
                    found.setdefault(name, []).append(module)
    return found


def test_one_name_for_one_thing() -> None:
    sources = [(name_of(path), path.read_text()) for path in modules()]
    doubles = {name: where for name, where in class_names(sources).items() if len(where) > 1}
    assert doubles.keys() == DOUBLES.keys(), doubles
    assert len(DOUBLES) <= 5
    planted = class_names([*sources, ("reconciler.report.new", "class Reconciler: pass")])
    assert planted["Reconciler"] == ["reconciler.process.reconciler", "reconciler.report.new"]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_file_has_one_job(path: Path) -> None:
    count = len(path.read_text().splitlines())
    assert count <= LONGEST_FILE, f"{name_of(path)} has {count} lines: it has more than one job"


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
    "test_leaks.py": "what passes a host with exits: its chains, rules and routes together",
    "test_lives.py": "what live sessions, trials and failovers ask of the engine and its stages together",
    "test_registries.py": "every registry of kinds against the kinds that there are",
}
