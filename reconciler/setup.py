"""Puts an agent together from a host's settings: the only place that knows every part of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from reconciler.acquire import Acquirer, Verifies
from reconciler.config import AgentConfig
from reconciler.engine import Engine
from reconciler.errors import Stalled
from reconciler.host import Host
from reconciler.inventory import Inventory, InventoryError
from reconciler.keys import secret_reader
from reconciler.kinds import KINDS
from reconciler.loops.exits.memory import FOLDER, remembered
from reconciler.loops.exits.overlay import OWNER
from reconciler.loops.exits.providers.base import Provider
from reconciler.parent import line
from reconciler.probes import Check, Tunnel
from reconciler.sources.base import Asks, Source
from reconciler.state import Store
from schema.plan import Exit, Resource
from schema.plan.base import Family

if TYPE_CHECKING:
    from reconciler.loops.exits.loop import Tools
    from reconciler.sources.git import Mirror

RESOLVE_SECONDS = 2.0
"""How long applying may wait for a DNS name; a peer is made without an endpoint then, and pointed later."""
RESOLVE_AGAIN = 30.0
Lookup = Callable[[str, Family | None], str]
"""An address of a name, of a family or of any. Raises OSError."""


class SetupError(Exception):
    """The agent cannot start on this host; the text says why."""


def store_of(config: AgentConfig) -> Store:
    """The state folder, made where it is missing. Raises SetupError."""
    store = Store(config.state)
    try:
        store.open()
    except OSError as error:
        raise SetupError(f"cannot use the state folder {config.state}: {error.strerror}") from None
    return store


def host_of(config: AgentConfig, store: Store, compile_command: Sequence[str]) -> Host:
    """The host that the settings describe, on this machine's kernel. Raises SetupError."""
    from reconciler.system import Context, drivers

    secret = secret_reader(config.keys, store.sealed, config.identity, config.state / FOLDER)
    try:
        inventory = Inventory(config.state / "inventory.json")
        found = drivers(Context(secret, inventory, config.state / "services", Resolve()))
    except (InventoryError, OSError) as error:
        raise SetupError(str(error)) from None
    source = source_of(config, compile_command)
    engine = Engine(
        store=store,
        drivers=found,
        kinds=KINDS,
        prober=Prober(source, Resolve()),
        line=line(),
        patience=config.poll.interval + config.poll.jitter,
    )
    engine.set_overlay(OWNER, _exits(config, store))
    acquirer = Acquirer(host=config.host, store=store, source=source, verifier=verifier_of(config), open_secret=secret)
    return Host(name=config.host, store=store, engine=engine, acquirer=acquirer)


def _exits(config: AgentConfig, store: Store) -> list[Resource]:
    """The tunnels of exits as they were last: whoever restores a plan must not take them for leftovers."""
    try:
        plan = store.plan_in_force()
        return remembered(config.state, plan.runtime.exits or ()) if plan else []
    except (Stalled, OSError):
        return []


def exit_tools(config: AgentConfig, store: Store, first: Callable[[], None]) -> Tools:
    """What exits are found, measured and asked with; `first` is called when there is one."""
    from reconciler.loops.exits.loop import Tools
    from reconciler.loops.exits.providers.build import build
    from reconciler.system import dns
    from reconciler.system.https import sender
    from reconciler.system.latency import measure

    secret = secret_reader(config.keys, store.sealed, config.identity)
    resolve = Resolve()

    def provider(exit: Exit) -> Provider:
        return build(exit, config.state / FOLDER, config.pia, sender(), time.time, secret, resolve)

    return Tools(provider, measure, sender(0), resolve, dns.ask, first)


class Prober:
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

    def provoke(self, tunnels: Iterable[Tunnel]) -> None:
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
    """Where this host's plans come from."""
    from pathlib import Path

    from reconciler.sources.rendered import Folder
    from reconciler.sources.repository import RenderedRepository, Repository

    wanted = config.source
    if wanted.git is None:
        assert wanted.plans is not None
        return Folder(Path(wanted.plans), config.host)
    mirror = mirror_of(config)
    if wanted.plans is not None:
        return RenderedRepository(mirror, config.host, f"{wanted.path}/{wanted.plans}")
    return Repository(mirror, config.host, compile_command, wanted.path)


def mirror_of(config: AgentConfig) -> Mirror:
    """The bare clone of the repository that the settings name."""
    from reconciler.sources.git import Mirror, Remote

    wanted = config.source
    assert wanted.git is not None
    remote = Remote(
        wanted.git, wanted.branch, wanted.ssh_key, wanted.known_hosts, wanted.token_file, timeout=wanted.timeout
    )
    return Mirror(config.state / "repo.git", remote)


def verifier_of(config: AgentConfig) -> Verifies | None:
    """What checks commits; None where nobody is pinned."""
    wanted = config.source.verify
    if wanted is None or config.source.git is None:
        return None
    from reconciler.sources.verify import Signers, Verifier

    signers = Signers(wanted.allowed_signers, wanted.revoked, wanted.openpgp, wanted.history)
    return Verifier(mirror_of(config), signers)


def iptables_is_nft() -> bool:
    """Whether this host's iptables works on nftables, which announces changes; the legacy one does not."""
    import shutil
    from pathlib import Path

    found = shutil.which("iptables-save")
    return found is not None and "legacy" not in Path(found).resolve().name


class Resolve:
    """Resolves names within a bounded time, and does not ask again at once for one that failed."""

    def __init__(self, lookup: Lookup | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup or _first_address
        self._clock = clock
        self._failed: dict[tuple[str, Family | None], float] = {}

    def __call__(self, name: str, family: Family | None = None) -> str:
        """An address, of a family where one is named. Raises OSError."""
        key = (name, family)
        if self._clock() < self._failed.get(key, 0.0):
            raise OSError(f"{name} did not resolve a moment ago")
        answer: list[str] = []
        asking = threading.Thread(target=self._ask, args=(*key, answer), daemon=True)
        asking.start()
        asking.join(RESOLVE_SECONDS)
        if not answer:
            self._failed[key] = self._clock() + RESOLVE_AGAIN
            raise OSError(f"{name} does not resolve")
        self._failed.pop(key, None)
        return answer[0]

    def _ask(self, name: str, family: Family | None, answer: list[str]) -> None:
        with suppress(OSError, UnicodeError):  # no answer says it all
            answer.append(self._lookup(name, family))


def _first_address(name: str, family: Family | None) -> str:
    of = {None: socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}[family]
    return str(socket.getaddrinfo(name, None, of, socket.SOCK_DGRAM)[0][4][0])
