"""The two lists that stand beside the planted mistakes: those that are known by name, and those that change nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.mutants.plant import Mutant, by_hand
from tests.mutants.table import ROOT

FOLDER = Path(__file__).parent
Known = dict[tuple[str, str, str], str]
"""Module, before and after of an equivalent -> why it changes nothing that anybody could see."""


def listed(module: str) -> list[Mutant]:
    """The mistakes of a module that somebody wrote down. Raises LookupError for one whose text is gone."""
    text = (ROOT / module).read_text()
    return [
        by_hand(module, text, one["before"], one["after"]) for one in _rows("listed.toml") if one["module"] == module
    ]


def modules_listed() -> set[str]:
    return {one["module"] for one in _rows("listed.toml")}


def equivalents() -> Known:
    return {
        (one["module"], " ".join(one["before"].split()), " ".join(one["after"].split())): one["reason"]
        for one in _rows("equivalent.toml")
    }


def _rows(name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = tomllib.loads((FOLDER / name).read_text()).get("mutant", [])
    return found
