"""Checks that `fabric.lock` names what the fabric uses, and nothing else."""

from __future__ import annotations

from compiler.fabric.model import Fabric
from schema.input import LOCK
from schema.problem import Place, Problem


def check_lock(fabric: Fabric, strict: bool = False) -> list[Problem]:
    """A warning (an error if `strict`) for numbers that the lock lacks or has in excess."""
    found = []
    have, want = fabric.desired.lock, fabric.lock
    missing = sorted(entry for entry, value in want.items() if have.get(entry) != value)
    stale = sorted(entry for entry in have if entry not in want)
    for code, entries, what in (("GW052", missing, "not in the lock yet"), ("GW055", stale, "locked and not used")):
        if entries:
            names = ", ".join(" ".join(entry) for entry in entries[:3]) + (", …" if len(entries) > 3 else "")
            count = "1 number" if len(entries) == 1 else f"{len(entries)} numbers"
            hint = "run `gitwan lock` and commit the file"
            message = f"{count} {what}: {names}"
            found.append(Problem(code, Place(LOCK), message, hint, severity="error" if strict else "warning"))
    return found
