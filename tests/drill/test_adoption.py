"""An agent is killed while a loop's peers carry packets, and git revokes a client meanwhile."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import flows
from bench.moves import INNER, NEAR, OUTER, SPACE, far_end, greet, receiver, run, sender, until
from reconciler.base.control import Unreachable, call
from reconciler.system.wg_key import generate_private, public_key
from schema.plan import Address, HostPlan, Link, Peer, Resource, Route, SecretRef, Wireguard
from tests.contract.conftest import needs_root
from tests.drill.guests_agent import DEVICE
from tests.namespaces import private_network

ROOT = Path(__file__).parents[2]
GUESTS, CLIENT = ("far0", "far1"), "far2"
RATE = 50.0
OF_A_PACKET = 160
"""Bytes of one that the device counts: 100, headers of 28, and WireGuard's 32."""
CONFIG = """\
host: h1
source: {{plans: {folder}/plans}}
state: {folder}/state
socket: {folder}/agent.sock
keys: {folder}/keys
metrics: off
poll: {{interval: 1h}}
"""


class Scene:
    """A host with an agent, two guests whom a loop lets in, and a client who is written in git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "agent.sock")
        self.private = generate_private()
        (folder / "keys").mkdir()
        key = folder / "keys" / "private.key"
        key.touch(0o600)
        key.write_text(base64.b64encode(self.private).decode() + "\n")
        (folder / "agent.yaml").write_text(CONFIG.format(folder=folder))
        self.peers: dict[str, Peer] = {}

    def write(self, *clients: Peer) -> None:
        """What git says from now on."""
        reference = SecretRef(secret="private-key", fingerprint=public_key(self.private))
        resources: list[Resource] = [
            Link(name=DEVICE, type="wireguard", mtu=1420),
            Wireguard(dev=DEVICE, private_key=reference, listen_port=5000),
            Address(dev=DEVICE, address=f"{NEAR}/32"),
            Route(dst=INNER, dev=DEVICE),
            *clients,
        ]
        path = self.folder / "plans" / "h1" / "plan.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(HostPlan.of("h1", resources).canonical())

    @contextmanager
    def agent(self, log: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "tests.drill.guests_agent", "agent", "run"]
        with (self.folder / log).open("wb") as output:
            process = subprocess.Popen(
                [*command, "--config", str(self.folder / "agent.yaml")],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            try:
                yield process
            finally:
                # The agent and its parent at once: nobody is left to put anything back.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def status(self) -> dict[str, Any]:
        try:
            return dict(call(self.socket, "status", 30.0)["status"])
        except Unreachable:
            return {}

    def keys(self) -> set[str]:
        return set(run("wg", "show", DEVICE, "peers", check=False).split())


@pytest.mark.root
def test_a_killed_agent_costs_no_packet_and_its_loop_adopts_but_what_git_revoked_goes(tmp_path: Path) -> None:
    needs_root()
    with private_network():
        scene = Scene(tmp_path)
        endpoint = f"{OUTER[0]}:5000"
        names = [*GUESTS, CLIENT]
        with far_end(names, public_key(scene.private), endpoint) as keys:
            addresses = {name: f"10.64.0.{n + 1}" for n, name in enumerate(names)}
            peers = {
                name: Peer(dev=DEVICE, public_key=keys[n], endpoint=f"{OUTER[1]}:{51900 + n}",
                           allowed_ips=(f"{addresses[name]}/32",))
                for n, name in enumerate(names)
            }  # fmt: skip
            scene.write(peers[CLIENT])
            (tmp_path / "state").mkdir(mode=0o700)
            guests = [peers[name].model_dump() for name in GUESTS]
            (tmp_path / "state" / "guests.json").write_text(json.dumps(guests))
            wanted = {peer.public_key for peer in peers.values()}
            file = tmp_path / "arrivals"
            with receiver(file, SPACE), scene.agent("first.log"):
                until(lambda: (scene.status().get("guests") or False) and scene.keys() == wanted, "every peer")
                greet(DEVICE, [addresses[name] for name in GUESTS])
                with sender([addresses[name] for name in GUESTS], [NEAR], RATE):
                    first = scene.status()["commit"]
                    _killed_and_started_again(scene, peers, first)
                    _packets_more(keys[: len(GUESTS)])
            found = flows.read(file)
        assert {flow: one.lost for flow, one in found.items()} == {0: 0, 1: 0}
        assert min(len(one.arrivals) for one in found.values()) > RATE


def _packets_more(keys: list[str]) -> None:
    """A second's packets to each of these peers, however long that takes."""

    def sent() -> list[int]:
        rows = (line.split() for line in run("wg", "show", DEVICE, "transfer").splitlines())
        return [int(row[2]) for row in rows if row[0] in keys]

    before, enough = sent(), (RATE + 1) * OF_A_PACKET
    until(lambda: all(now - then >= enough for now, then in zip(sent(), before, strict=True)), "packets after it")


def _killed_and_started_again(scene: Scene, peers: dict[str, Peer], first: str) -> None:
    pid = int(run("pgrep", "-of", f"guests_agent agent run --config {scene.folder}"))
    os.killpg(os.getpgid(pid), signal.SIGKILL)
    scene.write()
    with scene.agent("second.log"):
        guests = {peers[name].public_key for name in GUESTS}
        until(lambda: scene.status().get("commit") not in (None, "", first), "the commit that revokes the client")
        until(lambda: scene.keys() == guests, "the revoked client to go")
        rows = scene.status()["guests"]
        assert set(rows[0]["adopted"]) == guests
