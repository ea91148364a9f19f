"""Validation and compilation, compared to a parser that only parses the same files."""

from __future__ import annotations

import math

from ruamel.yaml import YAML

from bench.generate import hub_and_spoke, locked
from bench.rows import Board, Row
from bench.timing import in_turns, milliseconds, ratio
from compiler.compile import Compilation, compile_files

Files = dict[str, bytes]
TURNS = 7
PARSE = "x ruamel's C parse"


def measure(board: Board) -> None:
    with board.working("generating 1,000 sites"):
        many, few = locked(hub_and_spoke(1000)), locked(hub_and_spoke(100))
    works = {
        "parse": lambda: parse(many),
        "all": lambda: every_plan(many),
        "one": lambda: one_plan(many, "s0500-gw"),
        "hub": lambda: one_plan(many, "hub-gw"),
        "few": lambda: every_plan(few),
    }
    with board.working("compiling 1,000 sites"):
        times = in_turns(works, TURNS)
    parsed = f"{milliseconds(times, 'parse')} to parse"
    board.add(
        Row("validate and compile 1,000 sites, all hosts' plans", ratio(times, "all", "parse"), PARSE, 6.0,
            note=f"{milliseconds(times, 'all')}; {parsed}")
    )  # fmt: skip
    board.add(
        Row("one host's plan out of 1,000 sites", ratio(times, "one", "parse"), PARSE, 1.5,
            note=f"{milliseconds(times, 'one')}; {parsed}")
    )  # fmt: skip
    board.add(
        Row("the hub's plan out of 1,000 sites", ratio(times, "hub", "parse"), PARSE,
            note=f"{milliseconds(times, 'hub')}; {parsed}")
    )  # fmt: skip
    # The best times are used: an exponent is small, and one slow moment in either measurement would distort it.
    few_best, all_best = min(times["few"]), min(times["all"])
    board.add(
        Row("growth from 100 to 1,000 sites", math.log10(all_best / few_best), "exponent", 1.1,
            note=f"{few_best * 1000:.0f} ms for 100, {all_best * 1000:.0f} ms for 1,000")
    )  # fmt: skip


def parse(files: Files) -> None:
    """The floor: ruamel's loader on libyaml, and nothing else."""
    yaml = YAML(typ="safe")
    for path, content in files.items():
        if path.endswith(".yaml"):
            yaml.load(content)


def compiled(files: Files) -> Compilation:
    result = compile_files(files)
    if result.problems:
        raise RuntimeError(result.problems[0].message)
    return result


def every_plan(files: Files) -> int:
    """Validate, compile, and write every host's plan as JSON. Returns the total size in bytes."""
    plans = compiled(files).plans()
    return sum(len(plan.canonical()) for plan in plans.values())


def one_plan(files: Files, host: str) -> int:
    return len(compiled(files).plan(host).canonical())
