"""Compiles files into plans, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compiler.fabric.lock import check_lock
from compiler.fabric.model import Fabric
from compiler.plan.host import plan_host
from compiler.stages import resolve
from schema.load import load
from schema.plan import HostPlan
from schema.problem import Problem, Problems
from schema.quiet import quiet_gc


@dataclass(slots=True)
class Compilation:
    """The result for a repository: a fabric if there is one, and every problem, sorted."""

    fabric: Fabric | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def hosts(self) -> list[str]:
        """The hosts that can have a plan, by name."""
        return sorted(name for name, node in self.fabric.nodes.items() if node.key) if self.fabric else []

    def plan(self, host: str) -> HostPlan:
        """A host's plan. Raises KeyError for a host without one."""
        if self.fabric is None or host not in self.hosts:
            raise KeyError(host)
        return plan_host(self.fabric, self.fabric.nodes[host])

    def plans(self) -> dict[str, HostPlan]:
        """Every host's plan, by host."""
        assert self.fabric is not None
        with quiet_gc():
            return {host: plan_host(self.fabric, self.fabric.nodes[host]) for host in self.hosts}


def compile_files(
    files: Mapping[str, bytes], special: Mapping[str, str] | None = None, strict: bool = False
) -> Compilation:
    """Run every step from files to fabric. Bad input gives problems, never an exception.

    `special` names paths that are no regular files (`symlink`, `submodule`); `strict` makes an incomplete lock an
    error.
    """
    fabric: Fabric | None = None
    with quiet_gc():
        desired, problems = load(files, special)
        # An error in one file leaves gaps that would only cause more errors elsewhere.
        if not any(problem.severity == "error" for problem in problems):
            try:
                fabric = resolve(desired)
                problems += [*fabric.problems, *check_lock(fabric, strict)]
            except Problems as found:
                problems += found.problems
    return Compilation(fabric, sorted(problems, key=lambda problem: problem.sort_key))
