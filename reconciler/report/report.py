"""The results of one cycle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.base.errors import CycleError
from reconciler.converge.diff import Conflict, ResourceName
from reconciler.state.commits import Rejected
from reconciler.state.store import Confirmed, digest_of
from schema.plan import Change, HostPlan, Resource

Mode = Literal["restore", "apply", "repair", "adopt", "remove", "move"]
CycleResult = Literal["unchanged", "changed", "repaired", "conflict", "failed", "rolled back"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan to apply, and its commit."""

    commit: str
    plan: HostPlan
    digest: str
    data: bytes
    """The canonical plan."""

    @classmethod
    def of(cls, commit: str, plan: HostPlan) -> Candidate:
        data = plan.canonical()
        return cls(commit, plan, digest_of(data), data)


@dataclass(slots=True)
class Acquired:
    """The result of fetching and compiling: a candidate, or the reason why there is none."""

    commit: str | None = None
    candidate: Candidate | None = None
    """None if the commit is the confirmed one, was rejected, or did not compile."""
    rejected: Rejected | None = None
    fetch_error: CycleError | None = None
    verify_error: CycleError | None = None
    verified: bool = False
    """Whether signers are pinned on this host."""
    compile_error: CycleError | None = None
    note: str = ""

    @property
    def error(self) -> CycleError | None:
        return self.fetch_error or self.verify_error or self.compile_error


@dataclass(slots=True)
class Report:
    """Everything about one cycle, for status, log and metrics."""

    mode: Mode = "repair"
    acquired: Acquired | None = None
    newest: str | None = None
    """The newest known commit, if this cycle did not fetch."""
    confirmed: Confirmed | None = None
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Operations carried out, by kind and verb."""
    repaired: list[Change] = field(default_factory=list)
    """Changes that repaired drift from the confirmed plan."""
    conflicts: list[Conflict] = field(default_factory=list)
    satisfied_foreign: list[Resource] = field(default_factory=list)
    error: CycleError | None = None
    """The reason why applying failed."""
    unmet: dict[ResourceName, str] = field(default_factory=dict)
    """What loops want in addition to the plan and cannot have, with the reasons."""
    state_error: CycleError | None = None
    """The reason why the confirmed plan is not known."""
    rolled_back: bool = False
    trial: str = ""
    """What an applied plan still waits for."""
    held: dict[str, list[Change]] = field(default_factory=dict)
    """Changes that a suspension prevented, with an entry for each kind that was read."""
    partial: bool = False
    """Only some kinds were read."""
    says_nothing_of_the_plan: bool = False
    """No plan was applied: there is none, or it was given up, or the source brought nothing new."""
    passes: int = 0
    seconds: float = 0.0

    @property
    def operations(self) -> int:
        return self.done.total()

    @property
    def result(self) -> CycleResult:
        if self.rolled_back:
            return "rolled back"
        if self.error or self.state_error or (self.acquired and self.acquired.error):
            return "failed"
        if self.conflicts:
            return "conflict"
        if not self.operations:
            return "unchanged"
        return "repaired" if self.mode in ("repair", "restore") else "changed"

    @property
    def ok(self) -> bool:
        rejected = self.acquired.rejected if self.acquired else None
        return self.result in ("unchanged", "changed", "repaired") and rejected is None

    def summary(self) -> str:
        """The operations as text: `2 route create, 1 peer delete`."""
        if not self.operations:
            return "0 operations: nothing to change"
        parts = [f"{count} {kind} {verb}" for (kind, verb), count in sorted(self.done.items()) if count]
        plural = "" if self.operations == 1 else "s"
        return f"{self.operations} operation{plural}: {', '.join(parts)}"

    def json(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "result": self.result,
            "operations": self.operations,
            "by_kind": {f"{kind} {verb}": count for (kind, verb), count in sorted(self.done.items()) if count},
            "conflicts": [conflict.text for conflict in self.conflicts],
            "foreign": [f"{r.kind} {r.describe()}" for r in self.satisfied_foreign],
            "passes": self.passes,
            "seconds": round(self.seconds, 4),
        }
