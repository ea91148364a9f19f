"""The programs that may run as services: how each is checked, started, known to be ready, and reconfigured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.system.launch import Limits
from reconciler.system.ready import Appears, Ready
from reconciler.system.service_files import Paths
from schema.plan.service import RESTARTED, Daemon

USUAL = Limits()


@dataclass(frozen=True, slots=True)
class Program:
    """A daemon's commands to check a file and to run with one. The configuration's path is appended to both."""

    check: tuple[str, ...]
    run: tuple[str, ...]
    """`{pid}` stands for the pid file, `{ready}` for a file that appears when it is ready."""
    package: str
    ready: Callable[[Paths], Ready] | None = None
    """The readiness test of a program that stays in the foreground; None for one that goes into the background by
    itself and then writes its pid file."""
    limits: Limits = USUAL


def appears(paths: Paths) -> Ready:
    return Appears(paths.path("ready"))


PROGRAMS: dict[Daemon, Program] = {
    "dnsmasq": Program(
        ("--test", "-C"),
        # dnsmasq writes its pid file only when its sockets are open, which is the sign of readiness.
        ("--keep-in-foreground", "--log-facility=-", "--pid-file={ready}", "-C"),
        package="dnsmasq-base",
        ready=appears,
        limits=Limits(files=4096, data=512 << 20),
    ),
    "keepalived": Program(("-t", "-f"), ("-P", "-p", "{pid}", "-r", "{pid}.vrrp", "-f"), package="keepalived"),
    "radvd": Program(("-c", "-C"), ("-m", "syslog", "-p", "{pid}", "-C"), package="radvd"),
}


def reloads(name: Daemon) -> bool:
    """Whether SIGHUP makes it read its configuration again."""
    return name not in RESTARTED
