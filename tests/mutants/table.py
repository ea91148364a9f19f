"""Which tests judge a module, beside the one that mirrors it; and how many mistakes are planted in it.

First the tests that are quick to fail: the first one that does ends a run. Where a module is about what the kernel or
a program is told, the contract lane's are among them; these are left out without root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UNIT = "tests/unit"
GOLDEN = "tests/golden/test_golden.py"
NETWORKS = f"{UNIT}/compiler/test_properties.py"
WORLDS = f"{UNIT}/reconciler/test_properties.py"
ENGINE = f"{UNIT}/reconciler/cycle/test_engine.py"
LIVES = f"{UNIT}/reconciler/cycle/test_lives.py"
PROBING = f"{UNIT}/reconciler/cycle/test_probing.py"
CONTRACT = "tests/contract"
KINDS = f"{UNIT}/reconciler/test_kinds.py"
EXITS = f"{UNIT}/reconciler/loops/exits"


@dataclass(frozen=True, slots=True)
class Row:
    """A module, and what may catch a mistake in it."""

    module: str
    more: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    """Tests that need root."""
    number: int = 15
    """Mutants of it in a sample."""

    @property
    def mirror(self) -> str:
        folder, _, name = self.module.rpartition("/")
        return f"{UNIT}/{folder}/test_{name}"

    def tests(self, privileged: bool) -> list[str]:
        """Those that there are, the module's own first."""
        named = [self.mirror, *self.more, *(self.root if privileged else ())]
        return [path for path in dict.fromkeys(named) if (ROOT / path).exists()]


TABLE = (
    Row("reconciler/process/parent.py", number=20),
    Row("reconciler/loops/health/policy.py", (f"{UNIT}/reconciler/loops/health/test_loop.py",), number=20),
    Row("reconciler/sources/git.py", (f"{UNIT}/reconciler/sources",), number=20),
    Row("compiler/fabric/summary.py", (GOLDEN,), number=20),
    Row("compiler/stages/routing.py", (GOLDEN, f"{UNIT}/compiler/agentless", NETWORKS), number=20),
    Row("compiler/plan/exits.py", (f"{UNIT}/compiler/plan",), number=20),
    Row("compiler/plan/firewall.py", (f"{UNIT}/compiler/plan",)),
    Row("compiler/fabric/spread.py", (NETWORKS,)),
    Row("compiler/stages/ports.py", (GOLDEN, NETWORKS)),
    Row("compiler/stages/links.py", (GOLDEN, f"{UNIT}/compiler/stages", NETWORKS)),
    Row("reconciler/cycle/engine.py", (LIVES, WORLDS, PROBING, f"{UNIT}/reconciler")),
    Row("reconciler/cycle/plans.py", (LIVES, WORLDS, f"{UNIT}/reconciler")),
    Row("reconciler/cycle/rejections.py", (ENGINE, LIVES, f"{UNIT}/reconciler/cycle")),
    Row("reconciler/cycle/delivery.py", (f"{UNIT}/reconciler/test_overlays.py", f"{UNIT}/reconciler")),
    Row("reconciler/cycle/stages.py", (ENGINE, LIVES, PROBING, WORLDS, f"{UNIT}/reconciler")),
    Row("reconciler/cycle/probes.py", (PROBING,)),
    Row("reconciler/cycle/probing.py", (PROBING, ENGINE)),
    Row("reconciler/converge/diff.py", (ENGINE, LIVES, WORLDS, KINDS)),
    Row("reconciler/converge/executor.py", (ENGINE, WORLDS)),
    Row("reconciler/converge/groups.py", (WORLDS, f"{UNIT}/reconciler/loops/health")),
    Row("reconciler/state/store.py", (f"{UNIT}/reconciler/state", ENGINE, f"{UNIT}/reconciler/process")),
    Row("reconciler/state/commits.py", (f"{UNIT}/reconciler/state", ENGINE)),
    Row("reconciler/state/journal.py", (f"{UNIT}/reconciler/state", ENGINE)),
    Row("reconciler/sources/verify.py", (f"{UNIT}/reconciler/sources",)),
    Row("reconciler/loops/exits/policy.py", (EXITS,)),
    Row("reconciler/loops/exits/directory.py", (EXITS,)),
    Row("reconciler/loops/exits/health.py", (EXITS,)),
    Row("reconciler/loops/exits/overlay.py", (EXITS, f"{UNIT}/compiler/plan")),
    Row("reconciler/loops/exits/election.py", (EXITS,)),
    Row("reconciler/kinds/nexthop.py", (KINDS, WORLDS), (f"{CONTRACT}/test_groups.py",)),
    Row(
        "reconciler/system/firewall.py",
        (KINDS,),
        (f"{CONTRACT}/test_firewall.py", f"{CONTRACT}/test_marks.py"),
    ),
    Row(
        "reconciler/system/peer.py",
        (),
        (f"{CONTRACT}/test_wireguard.py", f"{CONTRACT}/test_wireguard_secrets.py", f"{CONTRACT}/test_moves.py"),
    ),
    Row(
        "reconciler/system/route.py",
        (),
        (f"{CONTRACT}/test_routing.py", f"{CONTRACT}/test_oracle.py", f"{CONTRACT}/test_older_kernels.py"),
    ),
    Row("schema/plan/link.py", (f"{UNIT}/schema", GOLDEN)),
    Row("schema/plan/nexthop.py", (f"{UNIT}/schema", GOLDEN, f"{UNIT}/reconciler/converge/test_groups.py")),
    Row("schema/plan/rule.py", (f"{UNIT}/schema", GOLDEN, KINDS)),
)  # fmt: skip


def rows(names: list[str]) -> list[Row]:
    """The rows of these modules, by their path or the end of it; all where none is named. Raises LookupError."""
    if not names:
        return list(TABLE)
    found = []
    for name in names:
        fitting = [row for row in TABLE if row.module == name or row.module.endswith(f"/{name}")]
        if len(fitting) != 1:
            raise LookupError(f"{name} names {len(fitting)} modules of tests/mutants/table.py")
        found += fitting
    return found
