"""What a loop is, and the ground it stands on.

A loop knows what no static file can know, and says what should be in the kernel for that; it never writes there. It is
a folder below this one with a `PLUG`, and one line in `loops/__init__.py`: the agent, the status, the metrics, the
socket and the command line walk that list, and know no loop by its name.
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
"""What a loop shows of one thing that it looks after; it goes to status.json as it is."""


@dataclass(frozen=True, slots=True)
class TunnelNote:
    """What a loop has found out about a tunnel: shown beside it in the status and the metrics."""

    alive: bool
    text: str = ""
    """Why not, if it is not."""
    rtt: float | None = None
    """Seconds of the last round trip."""
    loss: float = 0.0
    """The share of the last probes that were lost."""


class Loop(Protocol):
    """One that runs. All but `run` is called in the event loop's thread, and does not wait."""

    async def run(self) -> None:
        """Until it is cancelled. What it raises is logged, and it is run again."""
        ...

    def order(self, request: Mapping[str, Any]) -> Reply:
        """What somebody asks of it over the agent's socket; the answer has `ok`."""
        ...

    def refused(self, refused: Sequence[Refused]) -> None:
        """The kernel or an older owner did not let it have these, or not any more."""
        ...


class Ground(Protocol):
    """What the agent offers to a loop."""

    @property
    def settings(self) -> Any:
        """What the plan in force says to this loop."""
        ...

    @property
    def folder(self) -> Path:
        """The agent's state folder."""
        ...

    @property
    def config(self) -> AgentConfig:
        """This host's own settings."""
        ...

    @property
    def alive(self) -> frozenset[str]:
        """The watched tunnels that carry traffic."""
        ...

    @property
    def out(self) -> frozenset[str]:
        """Tunnels that were found dead when the agent first looked."""
        ...

    def observed(self, kind: str, device: str) -> Mapping[Key, Observed[Any]]:
        """What a device held of a kind (`wireguard`, `peer`) when it was read last."""
        ...

    def adoptable(self) -> list[Observed[Any]]:
        """What an earlier life of this loop has left in its scopes. It goes unless the loop puts it."""
        ...

    async def change(
        self, put: Iterable[Resource] = (), drop: Iterable[ResourceName] = (), amend: Iterable[Amend] = ()
    ) -> list[Refused]:
        """Want more or less beside the plan, or amend it; what of that is refused. It is applied at once.

        An empty call says that nothing is wanted of what may be left from an earlier life.
        """
        ...

    async def replace(self, resources: Iterable[Resource]) -> list[Refused]:
        """Want just this."""
        ...

    async def move(self, watched: Iterable[str], alive: frozenset[str]) -> None:
        """Have traffic follow which of the watched tunnels are alive."""
        ...

    async def remark(self, type_: str, condition: Condition | None) -> None:
        """Say how things are; None where there is nothing to look at."""
        ...

    async def in_lane(self, function: Callable[[], T]) -> T:
        """Run what reads the kernel while nobody changes it."""
        ...

    def show(self, rows: list[Row]) -> None:
        """What status and metrics show from now on."""
        ...

    def annotate(self, tunnels: Mapping[str, TunnelNote]) -> None:
        """What status and metrics show beside the tunnels from now on, by device."""
        ...

    def serve_metrics(self, address: str, port: int) -> None:
        """Answer for the metrics at one more address."""
        ...

    def say(self, level: Level, text: str) -> None:
        """Write a line to the log."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """A loop as everybody else sees it. What is heavy is imported by `make`, when an agent runs."""

    name: str
    """Also of its rows in the status, of its orders on the socket, and of it as an owner of overlays."""
    settings: Callable[[Runtime], Any]
    """What of a plan is for this loop. Nothing: then it idles, and what it has put goes with the commit."""
    make: Callable[[Ground], Loop]
    conditions: tuple[str, ...] = ()
    """The conditions that it speaks of, in the order of the status."""
    pending: str = ""
    """The condition that is Unknown until it has been looked after: while it is, all is not well."""
    shows: bool = False
    """Whether it has rows."""
    lines: Callable[[Sequence[Mapping[str, Any]]], list[str]] = lambda rows: []
    """Its rows for people."""
    metrics: Callable[[CollectorRegistry], Callable[[Sequence[Mapping[str, Any]]], None]] | None = None
    """Makes the metrics in a registry; what that returns sets them from rows."""
    orders: bool = False
    """Whether it takes orders."""
    command: Callable[[], typer.Typer] | None = None
    """Its group of the command line."""
    remembered: Callable[[Path, Runtime], Iterable[Resource]] = lambda folder, runtime: ()
    """What it wanted in its last life, from the state folder: wanted again before anything is restored."""
    scopes: Callable[[Runtime], Iterable[Scope]] = lambda runtime: ()
    """Where it may have put what outlives the agent: nothing there is deleted before the loop has spoken."""


class Quiet:
    """The parts of a loop that takes no orders and puts nothing."""

    def order(self, request: Mapping[str, Any]) -> Reply:
        return {"ok": False, "error": "it takes no orders"}

    def refused(self, refused: Sequence[Refused]) -> None:
        pass
