"""Commits that cut a host off: each host that one changes is back, reachable and on the old plan in time."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.blueprint import GIT_ADDRESS
from lab.client import down
from lab.folder import LabFolder
from schema.plan import Firewall, HostPlan, Resource
from tests.drill.world import DEADLINE, JITTER, POLL, Drill, begin
from tests.lab.twin import eventually, soon_nothing

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(900)]

HOST = "fra-gw1"
Plans = dict[str, HostPlan]


def without_default_routes(drill: Drill) -> Plans:
    return _edited(drill, "fra.yaml", ("gateway: [198.51.100.1, 2001:db8:100::1]", "gateway: []"))


def without_ssh(drill: Drill) -> Plans:
    """A firewall that refuses what the agent says to the git server."""
    chain = Firewall(
        family="inet", table="filter", chain="GITWAN-OUTPUT", hook="OUTPUT",
        rules=(f"-d {GIT_ADDRESS}/32 -p tcp -m tcp --dport 22 -j DROP",),
    )  # fmt: skip
    return {HOST: _with(drill.plans[HOST], chain)}


def with_another_key(drill: Drill) -> Plans:
    """Somebody else's key in the place of a host's: its neighbours speak to nobody, and it cannot be that host."""
    key = drill.twin.run(HOST, "sh", "-c", "wg genkey | wg pubkey").strip()
    return _edited(drill, "keys/fra-gw1.pub", (drill.read("keys/fra-gw1.pub").strip(), key))


def with_another_address(drill: Drill) -> Plans:
    """A subnet where nobody is, for the underlay."""
    return {
        HOST: _edited(
            drill, "fra.yaml",
            ("[198.51.100.10/24, 2001:db8:100::10/64]", "[198.51.99.10/24, '2001:db8:99::10/64']"),
            ("[198.51.100.1, 2001:db8:100::1]", "[198.51.99.1, '2001:db8:99::1']"),
        )[HOST]
    }  # fmt: skip


def _edited(drill: Drill, name: str, *edits: tuple[str, str]) -> Plans:
    """The plans that an edit of the network's files changes."""
    text = drill.read(name).replace('"', "")
    for old, new in edits:
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return drill.compiled({name: text})


def _with(plan: HostPlan, *more: Resource) -> HostPlan:
    return HostPlan.of(plan.host, [*plan.resources, *more], plan.runtime)


# What happens to the agent while the change is being judged


def nothing(drill: Drill, host: str) -> None:
    """The agent is alive."""


def killed(drill: Drill, host: str) -> None:
    """The worst moment: the change has just been executed, and nobody has judged it."""
    drill.kill(host, signal.SIGKILL)


def stopped(drill: Drill, host: str) -> None:
    drill.kill(host, signal.SIGSTOP)


def rebooted(drill: Drill, host: str) -> None:
    drill.reboot(host)


@dataclass(frozen=True)
class Lockout:
    """A commit, how to see that it has been executed, and how long taking it back may last."""

    name: str
    plans: Callable[[Drill], Plans]
    executed: Callable[[Drill, str], bool]
    bound: float = DEADLINE


def _no_gateway(drill: Drill, host: str) -> bool:
    return "via" not in drill.twin.run(host, "ip -4 route show default")


def _firewalled(drill: Drill, host: str) -> bool:
    return drill.twin.attempt(host, "iptables -S GITWAN-OUTPUT")[0] == 0


def _moved(drill: Drill, host: str) -> bool:
    return "198.51.99.10" in drill.twin.run(host, "ip -4 -br address show eno1")


def _other_key(drill: Drill, host: str) -> bool:
    return set(drill.twin.run(host, "wg show all peers").split()) != set(_peers(drill, host))


def _peers(drill: Drill, host: str) -> list[str]:
    return [word for key in drill.before[host]["peers"] for word in key]


LOCKOUTS = [
    Lockout("drops the route to the git server", without_default_routes, _no_gateway),
    Lockout("firewalls the agent's ssh to git", without_ssh, _firewalled),
    # Judged when the far end had its time to follow: a poll interval and the deadline.
    Lockout("has the wrong key of a peer", with_another_key, _other_key, DEADLINE + POLL + JITTER),
    Lockout("moves the managed underlay address", with_another_address, _moved),
]
MODES = {"alive": nothing, "killed": killed, "stopped": stopped, "rebooted": rebooted}


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    root = Path(tempfile.mkdtemp(prefix="gwd-", dir="/tmp"))
    try:
        yield begin(root)
    finally:
        down(LabFolder(root))


def _cases() -> Iterator[Any]:
    """Every commit with everything that may happen to the agent; without `make drill` a few of them."""
    sample = {(LOCKOUTS[0].name, "killed"), (LOCKOUTS[1].name, "alive"), (LOCKOUTS[3].name, "rebooted")}
    for lockout in LOCKOUTS:
        for mode in MODES:
            marks = [] if (lockout.name, mode) in sample else [pytest.mark.drill]
            yield pytest.param(lockout, mode, id=f"{lockout.name}; {mode}", marks=marks)


@pytest.mark.parametrize(("lockout", "mode"), [*_cases()])
def test_every_host_is_back_in_time(
    drill: Drill, lockout: Lockout, mode: str, measured: dict[str, list[tuple[str, str]]]
) -> None:
    plans = lockout.plans(drill)
    target = HOST if lockout.executed is not _other_key else "ams-gw1"
    commit = drill.push(plans, lockout.name)
    try:
        eventually(lambda: drill.changing(target) and lockout.executed(drill, target), what="the change is executed")
        started = time.monotonic()
        MODES[mode](drill, target)
        seconds: dict[str, float] = {}
        while len(seconds) < len(plans) and time.monotonic() - started < 3 * DEADLINE + POLL:
            for host in plans.keys() - seconds.keys():
                # What has not been rejected may not even have been tried yet; after a reboot it is tried once more.
                if (commit in drill.rejected(host) or (host, mode) == (target, "rebooted")) and not drill.wrong(host):
                    seconds[host] = time.monotonic() - started
        assert seconds.keys() == plans.keys(), [drill.wrong(host) for host in plans]
        what = f"{lockout.name}; {mode}"
        figure = ", ".join(f"{host} {value:.1f} s" for host, value in sorted(seconds.items()))
        measured.setdefault("lock-outs: from the executed change to the old plan, reachable", []).append((what, figure))
        assert max(seconds.values()) <= lockout.bound
        for host in plans:
            # After a reboot it is tried once more; in the end it is rejected everywhere, and says why.
            eventually(lambda host=host: commit in drill.rejected(host), 3 * DEADLINE, f"{host} rejects it")  # type: ignore[misc]
            soon_nothing(partial(drill.wrong, host))
            assert "rejected" in drill.twin.gitwan(host, "status")[1]
    finally:
        drill.twin.converged(drill.push({host: drill.plans[host] for host in plans}, "as before"))
