"""The interface between a loop and the agent.

A loop decides from what it measures at run time, which no plan can contain. It says which resources the kernel should
hold, and never writes to the kernel itself. A loop is a folder beside this file with a `PLUG`, and one line in
`loops/__init__.py`. The agent, status, metrics, socket and command line iterate over that list and name no loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from reconciler.base.control import Reply
from reconciler.converge.diff import ResourceName
from reconciler.converge.wanted import Amend, Refused, Scope
from reconciler.kinds.base import Observed
from reconciler.report.conditions import Condition
from schema.plan import Key, Resource, Runtime

if TYPE_CHECKING:
    import typer
    from prometheus_client import CollectorRegistry

    from reconciler.base.log import Level
    from reconciler.state.config import AgentConfig

T = TypeVar("T")
Row = dict[str, Any]
"""One object that a loop manages, as the status shows it. It is written to status.json unchanged."""


@dataclass(frozen=True, slots=True)
class TunnelNote:
    """What a loop has measured about a tunnel. Status and metrics show it beside the tunnel."""

    alive: bool
    text: str = ""
    """The reason, if the tunnel is not alive."""
    rtt: float | None = None
    """The last round-trip time, in seconds."""
    loss: float = 0.0
    """The share of recent probes that were lost, from 0 to 1."""


class Loop(Protocol):
    """A running loop. All methods except `run` are called in the event loop's thread and must not block."""

    async def run(self) -> None:
        """Run until cancelled. An exception is logged, and the agent calls `run` again."""
        ...

    def order(self, request: Mapping[str, Any]) -> Reply:
        """Answer a request from the agent's socket. The reply has the key `ok`."""
        ...

    def refused(self, refused: Sequence[Refused]) -> None:
        """Take note of resources that the kernel or an older owner refused, now or after having accepted them."""
        ...


class Ground(Protocol):
    """The agent's services for a loop."""

    @property
    def settings(self) -> Any:
        """The part of the plan in force that concerns this loop."""
        ...

    @property
    def folder(self) -> Path:
        """The agent's state folder."""
        ...

    @property
    def config(self) -> AgentConfig:
        """The host's own configuration."""
        ...

    @property
    def alive(self) -> frozenset[str]:
        """The watched tunnels that carry traffic."""
        ...

    @property
    def out(self) -> frozenset[str]:
        """Tunnels that were dead when the agent first read the kernel."""
        ...

    def observed(self, kind: str, device: str) -> Mapping[Key, Observed[Any]]:
        """The objects of a kind (`wireguard`, `peer`) on a device, at the last reading."""
        ...

    def adoptable(self) -> list[Observed[Any]]:
        """Objects that an earlier run of this loop left in its scopes. The agent deletes those that are not put
        again."""
        ...

    async def change(
        self, put: Iterable[Resource] = (), drop: Iterable[ResourceName] = (), amend: Iterable[Amend] = ()
    ) -> list[Refused]:
        """Add, drop or amend resources in addition to the plan, at once. Returns the refused ones.

        An empty call says that the loop wants nothing that an earlier run may have left.
        """
        ...

    async def replace(self, resources: Iterable[Resource]) -> list[Refused]:
        """Want exactly these resources. Returns the refused ones."""
        ...

    async def move(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        """Move traffic to the watched tunnels in `alive`, away from the other watched ones."""
        ...

    async def remark(self, type_: str, condition: Condition | None) -> None:
        """Set a condition; None removes it, if there is nothing to report on."""
        ...

    async def in_lane(self, function: Callable[[], T]) -> T:
        """Run a function that reads the kernel while no other thread changes it."""
        ...

    def show(self, rows: list[Row]) -> None:
        """Set the rows that status and metrics show."""
        ...

    def annotate(self, tunnels: Mapping[str, TunnelNote]) -> None:
        """Set the notes that status and metrics show beside the tunnels, by device."""
        ...

    def serve_metrics(self, address: str, port: int) -> None:
        """Serve the metrics at an additional address."""
        ...

    def say(self, level: Level, text: str) -> None:
        """Write a line to the log."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """A loop as the agent sees it. `make` does the heavy imports, when an agent runs."""

    name: str
    """Also names the loop's rows in the status, its orders on the socket, and the owner of its overlays."""
    settings: Callable[[Runtime], Any]
    """Selects the loop's part of a plan. If it is empty, the loop idles and its resources go with the commit."""
    make: Callable[[Ground], Loop]
    conditions: tuple[str, ...] = ()
    """The types of the conditions that the loop sets, in the order of the status."""
    pending: str = ""
    """A condition that is Unknown until the loop has set it. Until then the status is not ok."""
    shows: bool = False
    """Whether the loop has rows."""
    lines: Callable[[Sequence[Mapping[str, Any]]], list[str]] = lambda rows: []
    """Formats the loop's rows for people."""
    metrics: Callable[[CollectorRegistry], Callable[[Sequence[Mapping[str, Any]]], None]] | None = None
    """Makes the metrics in a registry, and returns the function that sets them from rows."""
    orders: bool = False
    """Whether the loop accepts orders."""
    command: Callable[[], typer.Typer] | None = None
    """The loop's group of commands."""
    remembered: Callable[[Path, Runtime], Iterable[Resource]] = lambda folder, runtime: ()
    """Reads from the state folder what the loop wanted in its last run; it is wanted again before a restore."""
    scopes: Callable[[Runtime], Iterable[Scope]] = lambda runtime: ()
    """Where the loop may have put resources that outlive the agent. They stay until the loop has called `change`."""


class Quiet:
    """Defaults for a loop that accepts no orders and ignores refusals."""

    def order(self, request: Mapping[str, Any]) -> Reply:
        return {"ok": False, "error": "it takes no orders"}

    def refused(self, refused: Sequence[Refused]) -> None:
        pass
