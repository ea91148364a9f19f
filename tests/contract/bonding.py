"""Two hosts whose bonds are joined leg by leg: this namespace, and one called `far`."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from reconciler.state.inventory import Inventory
from reconciler.system import Context, drivers
from reconciler.system.events import KernelEvents
from tests.contract.conftest import World, needs_links, needs_root, secret
from tests.namespaces import ip, private_network, run

PATIENCE = 60.0
"""Seconds until a test gives up waiting; under emulation two bonds have negotiated in three."""
UNASKED = 0.25
"""Seconds until a state is looked at though nothing was announced."""


def real(folder: Path) -> World:
    """The kernel's drivers, for the namespace that this is called in."""
    inventory = Inventory(folder / "inventory.json")
    return World(drivers(Context(secret=secret, inventory=inventory, services=folder / "services")))


@contextmanager
def joined(legs: int) -> Iterator[None]:
    """leg0, leg1, … here, each the other end of the leg of the same name in `far`."""
    needs_root()
    with private_network():
        needs_links("bond", "bonding")
        ip("netns add far")
        try:
            for n in range(legs):
                ip(f"link add leg{n} type veth peer name leg{n} netns far")
                ip(f"link set leg{n} up")
            yield
        finally:
            ip("netns del far")


def far_bond(legs: int, options: str, *addresses: str) -> None:
    """A bond of the far legs, made by `ip`, up and with addresses."""
    ip(f"-n far link add bond0 type bond {options}")
    for n in range(legs):
        ip(f"-n far link set leg{n} master bond0")
    ip("-n far link set bond0 up")
    for address in addresses:
        ip(f"-n far address add {address} dev bond0{' nodad' if ':' in address else ''}")


def raise_far(legs: int) -> None:
    """Give our legs a carrier, without a bond behind them."""
    for n in range(legs):
        ip(f"-n far link set leg{n} up")


def shown(name: str, *, far: bool = False) -> dict[str, Any]:
    """An interface as `ip -d -s` shows it."""
    found: list[dict[str, Any]] = json.loads(run(f"ip {'-n far ' if far else ''}-j -d -s link show {name}"))
    return found[0]


def aggregator(leg: str, *, far: bool) -> int | None:
    """The aggregator in which a leg sends and receives; None where it has not got that far."""
    data = shown(leg, far=far).get("linkinfo", {}).get("info_slave_data", {})
    state = data.get("ad_actor_oper_port_state", 0)
    return data["ad_aggregator_id"] if state & 0x30 == 0x30 else None


def in_one_aggregator(*legs: str) -> bool:
    """At both ends: one may send by a leg up to 100 ms before the other listens there."""
    ends = [{aggregator(leg, far=far) for leg in legs} for far in (False, True)]
    return all(len(found) == 1 and None not in found for found in ends)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a state of the kernel: it is looked at after each event, and unasked as LACP's states have none."""
    deadline, watch = time.monotonic() + PATIENCE, KernelEvents()
    try:
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
            select.select(watch.filenos(), [], [], UNASKED)
            while watch.read()[1]:
                pass
    finally:
        watch.close()


_ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
    echo.bind(("192.0.2.2", 7))
    print(flush=True)
    while True:
        echo.sendto(*echo.recvfrom(64))
"""


class Flows:
    """Paced UDP from ports of 192.0.2.1 to port 7 of 192.0.2.2 in `far`, which sends everything back."""

    PAUSE = 0.02

    def __init__(self, ports: Sequence[int]) -> None:
        self.sent = dict.fromkeys(ports, 0)
        self.back = dict.fromkeys(ports, 0)
        self._end = threading.Event()
        self._round = threading.Condition()

    def __enter__(self) -> Self:
        command = ["ip", "netns", "exec", "far", sys.executable, "-c", _ECHO]
        self._echo = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._echo.stdout is not None
        self._echo.stdout.readline()
        # Sockets stay in the namespace that they were made in, whatever thread uses them.
        self._sockets = {port: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in self.sent}
        for port, one in self._sockets.items():
            one.bind(("192.0.2.1", port))
            one.connect(("192.0.2.2", 7))
            one.setblocking(False)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._end.wait(self.PAUSE):
            for port, one in self._sockets.items():
                one.send(b"x")
                self.sent[port] += 1
            self._drain()
            with self._round:
                self._round.notify_all()

    def _drain(self) -> None:
        for port, one in self._sockets.items():
            try:
                while one.recv(64):
                    self.back[port] += 1
            except BlockingIOError:
                continue

    def later(self, rounds: int = 25) -> None:
        """Go on for a while."""
        goal = min(self.sent.values()) + rounds
        with self._round:
            assert self._round.wait_for(lambda: min(self.sent.values()) >= goal, PATIENCE), "packets are sent"

    def lost(self) -> dict[int, int]:
        """End, and count what did not come back, by port."""
        self._end.set()
        self._thread.join()
        deadline = time.monotonic() + 2
        while self.back != self.sent and (left := deadline - time.monotonic()) > 0:
            select.select([*self._sockets.values()], [], [], left)
            self._drain()
        return {port: self.sent[port] - self.back[port] for port in self.sent}

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for one in self._sockets.values():
            one.close()
        self._echo.kill()
        self._echo.communicate()
