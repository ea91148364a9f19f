"""Pings between every pair of networks, in both directions and both families, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from lab.client import ask
from lab.folder import LabFolder
from reconciler.process.status import MARKS


@dataclass(slots=True)
class Cell:
    """The result from one network to another: milliseconds by family, and the expected result."""

    denied: bool
    times: dict[str, float | None]

    @property
    def ok(self) -> bool:
        return bool(self.times) and all((time is None) == self.denied for time in self.times.values())

    @property
    def text(self) -> str:
        if self.denied:
            return "denied" if self.ok else "NOT DENIED"
        return " / ".join("LOST" if time is None else f"{time:.1f}" for _, time in sorted(self.times.items()))


PolicyRefuses = Callable[[str, str], bool]
"""Whether policy refuses traffic from the first address to the second."""


def measure(folder: LabFolder, refused: PolicyRefuses) -> dict[tuple[str, str], Cell]:
    """(from, to) -> the result, for every two endpoints of the running lab."""
    endpoints = ask(folder, "describe")["endpoints"]
    keys, pairs = [], []
    for source in endpoints:
        for target in endpoints:
            for version in sorted(source["addresses"].keys() & target["addresses"].keys() if source != target else ()):
                denied = refused(source["addresses"][version], target["addresses"][version])
                keys.append((source["network"], target["network"], version, denied))
                pairs.append([source["space"], target["addresses"][version], 1 if denied else 4])
    results = ask(folder, "ping", pairs=pairs)["results"]
    cells: dict[tuple[str, str], Cell] = {}
    for (source, target, version, denied), time in zip(keys, results, strict=True):
        cells.setdefault((source, target), Cell(denied, {})).times[version] = time
    return cells


def ping_table(cells: dict[tuple[str, str], Cell]) -> Table:
    """The endpoints in the rows ping those in the columns. Cells are round trips in ms, IPv4 / IPv6."""
    names = sorted({name for pair in cells for name in pair})
    table = Table(title="every pair of networks: round trip in ms, IPv4 / IPv6", title_justify="left")
    table.add_column("from \\ to")
    for name in names:
        table.add_column(name, justify="right")
    for source in names:
        row = []
        for target in names:
            cell = cells.get((source, target))
            colour = "" if cell is None else "green" if cell.ok else "bold red"
            row.append("·" if cell is None else f"[{colour}]{cell.text}[/]")
        table.add_row(source, *row)
    return table


def host_table(statuses: dict[str, dict[str, Any] | None]) -> Table:
    """Each host with its commit, its conditions and its tunnels."""
    table = Table(title="hosts", title_justify="left")
    for column in ("host", "commit", "conditions", "tunnels", "last cycle", "drift"):
        table.add_column(column)
    for host, status in sorted(statuses.items()):
        if status is None:
            table.add_row(host, "-", "[bold red]no answer[/]", "-", "-", "-")
            continue
        words = []
        for condition in status["conditions"]:
            colour = "green" if condition["status"] == "True" else "bold red"
            words.append(f"[{colour}]{condition['type']} {MARKS[condition['status']]}[/]")
        rows = status["tunnels"]
        cycle = status["cycle"] or {}
        last = f"{cycle.get('operations', 0)} operations, {cycle.get('seconds', 0):.2f} s"
        up = sum(row["up"] for row in rows)
        repaired = str(status["drift"]["repaired"] or "none")
        table.add_row(host, (status["commit"] or "-")[:7], " ".join(words), f"{up}/{len(rows)}", last, repaired)
    return table


def complaints(statuses: dict[str, dict[str, Any] | None]) -> list[str]:
    """The messages of unhealthy hosts, one line each."""
    return [
        f"{host}: {condition['type']}: {condition['reason']}: {condition['message']}"
        for host, status in sorted(statuses.items())
        if status
        for condition in status["conditions"]
        if condition["status"] != "True" or condition["type"] == "Contested"
    ]
