"""Exits as a server outside sees them: by which gateway does a machine on a LAN come out?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from compiler.fabric.model import Fabric, Node, Way
from lab.client import agent, ask
from lab.folder import Folder
from lab.provider.places import OUTSIDE, OUTSIDE_ADDRESS
from reconciler.kinds.peer import endpoint_parts
from reconciler.loops.exits.status import span
from schema.ip import Interface


@dataclass(frozen=True, slots=True)
class Seen:
    """An exit as its host has it, and as it is seen from outside."""

    host: str
    exit: dict[str, Any]
    """As the host's agent says."""
    taker: str
    """A machine on a LAN that takes it."""
    address: str
    """Who a server outside thinks that the machine is; nothing where it was not reached."""

    @property
    def gateways(self) -> list[dict[str, Any]]:
        return [tunnel for tunnel in self.exit["tunnels"] if tunnel["phase"] == "carrying"]

    @property
    def ok(self) -> bool:
        return self.address in [endpoint_parts(gateway["endpoint"])[0] for gateway in self.gateways]


def look(folder: Folder, fabric: Fabric) -> list[Seen]:
    """Every exit of a running lab that a LAN takes, looked at from outside once."""
    endpoints = ask(folder, "describe")["endpoints"]
    found = []
    for host, node in sorted(fabric.nodes.items()):
        answer = agent(folder, host, "exits") if node.exits else None
        rows = {row["name"]: row for row in (answer or {}).get("exits", [])}
        for way in node.exits:
            if taker := _taker(node, way, endpoints):
                row = rows.get(way.name, {"name": way.name, "provider": way.model.provider, "tunnels": []})
                found.append(Seen(host, row, taker, _asked(folder, taker)))
    return found


def _taker(node: Node, way: Way, endpoints: list[dict[str, Any]]) -> str | None:
    lans = [address.network for lan in way.lans for address in node.model.lans[lan].addresses]
    for endpoint in endpoints:
        if any(lan.covers(Interface.parse(text).host) for text in endpoint["addresses"].values() for lan in lans):
            return str(endpoint["space"])
    return None


def _asked(folder: Folder, space: str) -> str:
    """The address that the server outside sees a machine come from."""
    command = ["curl", "-s", "-m", "3", f"http://{OUTSIDE_ADDRESS}/"]
    with tempfile.TemporaryFile() as output, Path("/dev/null").open("r+b") as null:
        ask(folder, "exec", [null.fileno(), output.fileno(), null.fileno()], space=space, command=command)
        output.seek(0)
        return output.read().decode().removeprefix(f"{OUTSIDE} saw ").strip()


def exit_table(exits: list[Seen]) -> Table:
    """Each exit with its gateways, and the address that a server outside saw."""
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
