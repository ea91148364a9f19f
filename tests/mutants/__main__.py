"""python -m tests.mutants [MODULE ...] [--sample N] [--seed N] [--jobs N] [--listed] [--json]"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.lists import Known, equivalents, listed
from tests.mutants.plant import Mutant, plant, sample
from tests.mutants.run import Outcome, Unsound, judge
from tests.mutants.table import ROOT, Row, rows


def main(argv: Sequence[str]) -> int:
    options = _options(argv)
    known = equivalents()
    try:
        planted = [(row, _mutants(row, options, known)) for row in rows(options.module)]
        total = sum(len(mutants) for _, mutants in planted)
        counted = Progress(total)
        found = judge(planted, options.jobs, counted.tell)
    except (LookupError, Unsound) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([_row(one) for one in found], indent=1))
    else:
        print(*_report(planted, found, known), sep="\n")
    return 0 if passes(found) else 1


def passes(found: Sequence[Outcome]) -> bool:
    """Whether nothing survives: what cannot be caught was not tried."""
    return all(one.caught for one in found)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Plant mistakes; see what is caught.")
    parser.add_argument("module", nargs="*", help="a path, or the end of one; all of table.py where none is named")
    parser.add_argument("--sample", type=int, help="so many generated ones of each module, in place of table.py's")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree at once")
    parser.add_argument("--listed", action="store_true", help="only those that listed.toml names")
    parser.add_argument("--json", action="store_true", help="every outcome as JSON, and no table")
    return parser.parse_args(argv)


def _mutants(row: Row, options: argparse.Namespace, known: Known) -> list[Mutant]:
    """The listed ones, and a sample of what can be planted, without what is known to change nothing."""
    number = row.number if options.sample is None else options.sample
    text = Path(ROOT / row.module).read_text()
    made = [] if options.listed else sample(plant(row.module, text), number, options.seed)
    chosen = {mutant.text: mutant for mutant in [*listed(row.module), *made]}
    return [mutant for mutant in chosen.values() if mutant.name not in known]


class Progress:
    """One line for each mutant, on standard error."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def tell(self, outcome: Outcome) -> None:
        self.done += 1
        word = f"caught by {outcome.by}" if outcome.caught else "SURVIVED"
        place = f"{outcome.mutant.module}:{outcome.mutant.line}"
        print(f"{self.done}/{self.total} {outcome.seconds:5.1f} s  {place}  {word}", file=sys.stderr, flush=True)
        if not outcome.caught:
            print(f"    - {outcome.mutant.before}\n    + {outcome.mutant.after}", file=sys.stderr, flush=True)


def _report(planted: Sequence[tuple[Row, Sequence[Mutant]]], found: Sequence[Outcome], known: Known) -> list[str]:
    """A table, one line for each module, and the survivors."""
    width = max((len(row.module) for row, _ in planted), default=0)
    lines = [f"{'module':<{width}}  planted  caught  share"]
    for row, _ in planted:
        lines.append(_line(row.module, [one for one in found if one.mutant.module == row.module], width))
    lines.append(_line("all", list(found), width))
    lines.append(f"{len(known)} more are known to change nothing: tests/mutants/equivalent.toml")
    for one in found:
        if not one.caught:
            lines += [f"survived: {one.mutant.module}:{one.mutant.line}", f"  - {one.mutant.before}"]
            lines += [f"  + {one.mutant.after}"]
    return lines


def _line(name: str, found: Sequence[Outcome], width: int) -> str:
    caught = sum(one.caught for one in found)
    return f"{name:<{width}}  {len(found):>7}  {caught:>6}  {caught / len(found) if found else 1:>5.0%}"


def _row(one: Outcome) -> dict[str, object]:
    module, before, after = one.mutant.name
    return {
        "module": module,
        "line": one.mutant.line,
        "before": before,
        "after": after,
        "caught": one.caught,
        "by": one.by,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
