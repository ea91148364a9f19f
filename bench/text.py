"""The reason for the constructor in `schema/text.py`: the cost of reading 1,000 sites with it and with the
library's."""

from __future__ import annotations

import tracemalloc

from ruamel.yaml import YAML

from bench.compiling import parse
from bench.generate import hub_and_spoke
from bench.rows import Board, Row
from bench.timing import in_turns, milliseconds, ratio
from schema.text import parse as read

TURNS = 3


def measure(board: Board) -> None:
    files = {path: text for path, text in hub_and_spoke(1000).items() if path.endswith(".yaml")}
    some = dict(list(files.items())[:101])
    works = {
        "ours": lambda: [read(path, text) for path, text in files.items()],
        "safe": lambda: parse(files),
        "places": lambda: round_trip(some),
        "some": lambda: [read(path, text) for path, text in some.items()],
    }
    with board.working("reading 1,000 sites in several ways"):
        times = in_turns(works, TURNS)
    board.add(
        Row("our reader, which keeps places, in time", ratio(times, "ours", "safe"), "x ruamel's C parse",
            note=f"{milliseconds(times, 'ours')}; {milliseconds(times, 'safe')} without places")
    )  # fmt: skip
    board.add(
        Row("the library's own reader that keeps places, in time", ratio(times, "places", "some"), "x our reader",
            note=f"{milliseconds(times, 'places')} for 100 sites; ours {milliseconds(times, 'some')}")
    )  # fmt: skip
    ours, theirs = peak(works["some"]), peak(works["places"])
    board.add(
        Row("the library's own reader that keeps places, in memory", theirs / ours, "x our reader",
            note=f"{theirs / 2**20:.1f} MiB for 100 sites; ours {ours / 2**20:.1f}")
    )  # fmt: skip


def round_trip(files: dict[str, bytes]) -> list[object]:
    """Read the files with the library's reader that keeps places."""
    yaml = YAML()
    return [yaml.load(text) for text in files.values()]


def peak(work: object) -> int:
    """The peak memory of a call in bytes, including its result."""
    assert callable(work)
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
