"""Exits as seen by a server on the internet: through which gateway does the traffic of a LAN arrive?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from compiler.fabric.model import Fabric, HostExit, Node
from lab.client import agent, ask
from lab.folder import LabFolder
from lab.provider.places import OUTSIDE, OUTSIDE_ADDRESS
from reconciler.kinds.peer import endpoint_parts
from reconciler.loops.exits.status import span
from schema.ip import Interface


@dataclass(frozen=True, slots=True)
class ExitView:
    """The state of an exit on its host, and the source address that a server on the internet sees."""

    host: str
    exit: dict[str, Any]
    """The status of the exit from the host's agent."""
    taker: str
    """A machine on a LAN that takes the exit."""
    address: str
    """The source address that a server on the internet sees; empty if the server was not reached."""

    @property
    def gateways(self) -> list[dict[str, Any]]:
        return [tunnel for tunnel in self.exit["tunnels"] if tunnel["phase"] == "carrying"]

    @property
    def ok(self) -> bool:
        return self.address in [endpoint_parts(gateway["endpoint"])[0] for gateway in self.gateways]


def look(folder: LabFolder, fabric: Fabric) -> list[ExitView]:
    """Check every exit of a running lab that a LAN takes, once."""
    endpoints = ask(folder, "describe")["endpoints"]
    found = []
    for host, node in sorted(fabric.nodes.items()):
        answer = agent(folder, host, "exits") if node.exits else None
        rows = {row["name"]: row for row in (answer or {}).get("exits", [])}
        for way in node.exits:
            if taker := _taker(node, way, endpoints):
                row = rows.get(way.name, {"name": way.name, "provider": way.model.provider, "tunnels": []})
                found.append(ExitView(host, row, taker, _asked(folder, taker)))
    return found


def _taker(node: Node, way: HostExit, endpoints: list[dict[str, Any]]) -> str | None:
    lans = [address.network for lan in way.lans for address in node.model.lans[lan].addresses]
    for endpoint in endpoints:
        if any(lan.covers(Interface.parse(text).host) for text in endpoint["addresses"].values() for lan in lans):
            return str(endpoint["space"])
    return None


def _asked(folder: LabFolder, space: str) -> str:
    """The source address that the server on the internet sees for a machine."""
    command = ["curl", "-s", "-m", "3", f"http://{OUTSIDE_ADDRESS}/"]
    with tempfile.TemporaryFile() as output, Path("/dev/null").open("r+b") as null:
        ask(folder, "exec", [null.fileno(), output.fileno(), null.fileno()], space=space, command=command)
        output.seek(0)
        return output.read().decode().removeprefix(f"{OUTSIDE} saw ").strip()


def exit_table(exits: list[ExitView]) -> Table:
    """A table of the exits, with their gateways and the addresses that the server on the internet saw."""
    table = Table(title="exits: by which gateway the internet is reached", title_justify="left")
    for column in ("host", "exit", "gateway", "latency", "strikes", "who asked", "a server outside saw"):
        table.add_column(column)
    for seen in exits:
        gateways = seen.gateways
        table.add_row(
            seen.host,
            f"{seen.exit['name']} ({seen.exit['provider']})",
            ", ".join(gateway["gateway"] for gateway in gateways) or "[bold red]none[/]",
            ", ".join(span(gateway["latency"]) for gateway in gateways),
            ", ".join(f"{gateway['strikes']}/{gateway['allowed']}" for gateway in gateways),
            seen.taker,
            f"[{'green' if seen.ok else 'bold red'}]{seen.address or 'nobody'}[/]",
        )
    return table
