"""Assembles an agent from a host's configuration: the only module that knows all its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from reconciler import loops
from reconciler.converge.lane import Lane
from reconciler.converge.layers import Unneeded
from reconciler.converge.touched import Touched
from reconciler.cycle.engine import Engine
from reconciler.cycle.probes import Check, LiveTunnel
from reconciler.kinds import KINDS
from reconciler.loops.base import Plug
from reconciler.process.parent import line
from reconciler.process.reconciler import Reconciler
from reconciler.sources.acquire import Acquirer, Verifies
from reconciler.sources.base import Asks, Source
from reconciler.state.config import AgentConfig
from reconciler.state.inventory import Inventory, InventoryError
from reconciler.state.keys import EXITS, secret_reader
from reconciler.state.store import Store
from reconciler.system.resolve import Resolver

if TYPE_CHECKING:
    from reconciler.process.metrics import Metrics
    from reconciler.sources.git import Clone
    from reconciler.system.ends import Ends


class SetupError(Exception):
    """The agent cannot start on this host. The text says why."""


def store_of(config: AgentConfig) -> Store:
    """The state folder, created if missing. Raises SetupError."""
    store = Store(config.state)
    try:
        store.open()
    except OSError as error:
        raise SetupError(f"cannot use the state folder {config.state}: {error.strerror}") from None
    return store


@dataclass(frozen=True, slots=True)
class AgentParts:
    """The parts of an agent that keeps running."""

    touched: Touched
    ends: Ends
    """The ends of daemons, which `touched` listens to."""
    metrics: Metrics | None


def reconciler_of(
    config: AgentConfig, store: Store, compile_command: Sequence[str], parts: AgentParts | None = None
) -> Reconciler:
    """The reconciler for this configuration and this machine's kernel. Raises SetupError."""
    from reconciler.system import Context, drivers

    lane = Lane()
    resolve = Resolver(aside=lane.aside)
    secret = secret_reader(config.keys, store.sealed, config.identity, config.state / EXITS)
    try:
        inventory = Inventory(config.state / "inventory.json")
        ends = parts.ends if parts else None
        found = drivers(Context(secret, inventory, config.state / "services", resolve, lane.aside, ends))
    except (InventoryError, OSError) as error:
        raise SetupError(str(error)) from None
    source = source_of(config, compile_command)
    engine = Engine(
        store=store,
        drivers=found,
        kinds=KINDS,
        prober=SystemProber(source, Resolver()),
        line=line(),
        patience=config.poll.interval + config.poll.jitter,
        covered=parts.touched.covered if parts else lambda kinds: None,
        lane=lane,
        unneeded=unneeded_by(loops.LOOPS),
    )
    acquirer = Acquirer(host=config.host, store=store, source=source, verifier=verifier_of(config), open_secret=secret)
    host = Reconciler(
        name=config.host,
        store=store,
        engine=engine,
        acquirer=acquirer,
        plugs=loops.LOOPS,
        metrics=parts.metrics if parts else None,
    )
    host.recall()
    return host


def unneeded_by(plugs: Iterable[Plug]) -> Unneeded:
    """Returns a function that says whether a plan has no settings for a loop."""
    by_name = {plug.name: plug for plug in plugs}
    return lambda owner, runtime: owner in by_name and not by_name[owner].settings(runtime)


class SystemProber:
    """Carries out the checks of `probes.py`."""

    def __init__(self, source: Source, resolve: Callable[[str], str]) -> None:
        self._source = source if isinstance(source, Asks) else None
        self._resolve = resolve

    def git(self) -> Check | None:
        if self._source is None:
            return None
        server = self._source.server
        try:
            return Check("git", self._resolve(server) if server else "")
        except OSError:
            return Check("git")

    def answered(self, checks: Sequence[Check], seconds: float) -> set[Check]:
        from reconciler.system.probe import ask_all

        answers = ask_all([partial(self._ask, check) for check in checks], seconds)
        return {check for check, answer in zip(checks, answers, strict=True) if answer}

    def provoke(self, tunnels: Iterable[LiveTunnel]) -> None:
        from reconciler.system.probe import provoke

        for tunnel in tunnels:
            for address in tunnel.addresses:
                provoke(str(tunnel.key[0]), address, tunnel.shared)

    def _ask(self, check: Check, seconds: float) -> bool:
        from reconciler.system import probe

        match check.kind:
            case "gateway":
                return probe.gateway(check.target, check.via, seconds)
            case "ping":
                return probe.ping(check.target, seconds)
            case "tcp":
                return probe.tcp(check.target, seconds)
            case "http":
                return probe.web(check.target, seconds)
            case "dns":
                return probe.resolves(check.target, check.via, seconds)
            case "git":
                return self._source is None or self._source.reachable(seconds)


def source_of(config: AgentConfig, compile_command: Sequence[str]) -> Source:
    """The source of this host's plans."""
    from pathlib import Path

    from reconciler.sources.rendered import RenderedFolder
    from reconciler.sources.repository import RenderedRepository, Repository

    wanted = config.source
    if wanted.git is None:
        assert wanted.plans is not None
        return RenderedFolder(Path(wanted.plans), config.host)
    mirror = clone_of(config)
    if wanted.plans is not None:
        return RenderedRepository(mirror, config.host, f"{wanted.path}/{wanted.plans}")
    return Repository(mirror, config.host, compile_command, wanted.path)


def clone_of(config: AgentConfig) -> Clone:
    """The bare clone of the configured repository."""
    from reconciler.sources.git import Clone, Remote

    wanted = config.source
    assert wanted.git is not None
    remote = Remote(
        wanted.git, wanted.branch, wanted.ssh_key, wanted.known_hosts, wanted.token_file, timeout=wanted.timeout
    )
    return Clone(config.state / "repo.git", remote)


def verifier_of(config: AgentConfig) -> Verifies | None:
    """The verifier of commits; None if no signers are pinned."""
    wanted = config.source.verify
    if wanted is None or config.source.git is None:
        return None
    from reconciler.sources.verify import Signers, Verifier

    signers = Signers(wanted.allowed_signers, wanted.revoked, wanted.openpgp, wanted.history)
    return Verifier(clone_of(config), signers)


def iptables_is_nft() -> bool:
    """Whether this host's iptables uses nftables, which announces changes; the legacy variant does not."""
    import shutil
    from pathlib import Path

    found = shutil.which("iptables-save")
    return found is not None and "legacy" not in Path(found).resolve().name
