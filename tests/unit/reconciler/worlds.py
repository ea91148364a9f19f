"""Small worlds for tests: an engine on a fake host, and the resources of a plausible plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from reconciler.cycle.engine import Engine
from reconciler.kinds import KINDS
from reconciler.loops.base import Plug
from reconciler.process.ground import HostGround
from reconciler.process.reconciler import Reconciler
from reconciler.report.report import Acquired, Candidate, Report
from reconciler.state.config import parse
from reconciler.state.store import Store
from schema.plan import Address, HostPlan, Link, Peer, Resource, Route, SecretRef, Wireguard
from tests.fakes import FakeHost

NOW = 1_800_000_000.0


def key(number: int) -> str:
    """A public key, one per number."""
    return f"{number:A>42}A="


def wg(name: str = "wg0", port: int = 5000, mtu: int | None = 1420, number: int = 1) -> list[Resource]:
    """A WireGuard device: link and settings."""
    private = SecretRef(secret="private-key", fingerprint=key(number))
    return [Link(name=name, type="wireguard", mtu=mtu), Wireguard(dev=name, private_key=private, listen_port=port)]


def peer(name: str = "wg0", number: int = 9, *ips: str, endpoint: str | None = "198.51.100.1:5000") -> Peer:
    return Peer(dev=name, public_key=key(number), endpoint=endpoint, allowed_ips=tuple(sorted(ips)), name=f"p{number}")


def site() -> list[Resource]:
    """A tunnel with a peer, an address and a route."""
    return [
        *wg(),
        Address(dev="wg0", address="10.255.0.1/31"),
        peer("wg0", 9, "10.20.0.0/16"),
        Route(dst="10.20.0.0/16", dev="wg0"),
    ]


def candidate(commit: str, resources: Iterable[Resource], host: str = "h1") -> Candidate:
    return Candidate.of(commit, HostPlan.of(host, resources))


def engine_on(host: FakeHost, folder: Path, **options: object) -> Engine:
    store = Store(folder)
    store.open()
    return Engine(store=store, drivers=host.drivers(), kinds=KINDS, clock=lambda: NOW, **options)  # type: ignore[arg-type]


async def at_once(function: Callable[[], Any]) -> Any:
    """A lane that is always free."""
    return function()


def ground(
    host: Reconciler, plug: Plug, in_lane: Callable[[Callable[[], Any]], Awaitable[Any]] = at_once
) -> HostGround:
    """What a loop stands on, with the settings of a host that has none."""
    config = parse("{host: h1, source: {git: /w}}", "agent.yaml")
    return HostGround(host, plug, config, in_lane)


def apply(engine: Engine, commit: str, resources: Iterable[Resource]) -> Report:
    """One cycle with a new commit."""
    return engine.converge(Acquired(commit=commit, candidate=candidate(commit, resources)))
