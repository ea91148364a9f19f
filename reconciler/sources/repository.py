"""A git repository that is compiled here or contains plans that CI rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.base.errors import Stalled
from reconciler.sources.compile import LIMITS, CompileLimits, compile_tree
from reconciler.sources.git import Clone
from reconciler.sources.rendered import parse
from schema.plan import HostPlan


@dataclass(frozen=True)
class _Mirrored:
    """The common part of sources in a mirror."""

    mirror: Clone
    host: str

    @property
    def name(self) -> str:
        return self.mirror.name

    @property
    def server(self) -> str:
        return self.mirror.server

    def fetch(self) -> str:
        return self.mirror.fetch()

    def reachable(self, seconds: float) -> bool:
        return self.mirror.reachable(seconds)


@dataclass(frozen=True)
class Repository(_Mirrored):
    """Compiles the newest commit for one host with `compile_command`."""

    compile_command: Sequence[str]
    path: str = ""
    limits: CompileLimits = LIMITS

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        return compile_tree(self.compile_command, self.host, self.mirror.read(commit, self.path), self.limits)

    def sealed(self, commit: str, name: str) -> bytes | None:
        return self.mirror.read_file(commit, _join(self.path, "secrets", f"{name}.age"))


@dataclass(frozen=True)
class RenderedRepository(_Mirrored):
    """Reads `<path>/<host>/plan.json` of the newest commit."""

    path: str

    def plan(self, commit: str) -> tuple[HostPlan, str]:
        name = _join(self.path, self.host, "plan.json")
        data = self.mirror.read_file(commit, name)
        if data is None:
            raise Stalled("Compiled", "NoPlan", f"{name} is not in {commit[:7]}")
        return parse(data, name), ""

    def sealed(self, commit: str, name: str) -> bytes | None:
        return self.mirror.read_file(commit, _join(self.path, self.host, "secrets", f"{name}.age"))


def _join(*parts: str) -> str:
    """The path of a file as git names it in a tree, also below the folder `.`."""
    return str(PurePosixPath(*(part.strip("/") for part in parts)))
