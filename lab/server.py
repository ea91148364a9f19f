"""The process that holds the lab. It builds the lab in its own namespaces, and serves requests on a Unix socket.

It is started as `unshare -nmp --fork --kill-child --mount-proc python -m lab.server FOLDER`, so it is the first process
of a PID namespace. When it ends, for whatever reason, the kernel ends all other processes and removes every namespace
and interface.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from compiler.agentless.clients import client_file
from compiler.compile import compile_files
from compiler.fabric.model import Fabric
from compiler.shell.inputs import read_folder
from lab import world
from lab.blueprint import Blueprint
from lab.draw import draw
from lab.folder import LabFolder
from lab.provider import places
from reconciler.base.control import Unreachable, call

PINGS_AT_ONCE = 16


class Lab:
    """The running lab."""

    def __init__(self, folder: LabFolder, sites: Path) -> None:
        self.folder, self.sites = folder, sites
        fabric = self._fabric()
        self.plan: Blueprint = draw(fabric)
        self.providers = places.kinds_of(fabric)
        places.add(self.plan, fabric)
        self.hosts, self.clients = sorted(fabric.nodes), sorted(fabric.clients)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def _fabric(self) -> Fabric:
        """Compile the network of the work tree, and write the clients' configurations. Raises RuntimeError."""
        found = read_folder(self.sites)
        fabric = compile_files(found.files, found.special).fabric
        if fabric is None:
            raise RuntimeError(f"{self.sites} does not compile")
        for name, roamer in fabric.clients.items():
            self.folder.host(name).mkdir(parents=True, exist_ok=True)
            (self.folder.host(name) / "client.conf").write_text(client_file(fabric, roamer) or "")
        return fabric

    def build(self) -> None:
        """Start everything. Each step writes one line to the log."""
        gates = f"starting {len(places.gates_of(self.providers))} gateways of {' and '.join(self.providers)}"
        steps = (
            (f"making {len(self.plan.spaces)} namespaces and {len(self.plan.wires)} wires", self._network),
            ("starting the git server", self._git),
            *([(gates, self._exits)] if self.providers else []),
            (f"starting {len(self._workloads())} machines and {len(self.clients)} clients", self._machines),
            (f"starting {len(self.hosts)} agents", self._agents),
        )
        for text, step in steps:
            print(f"lab: {text}", flush=True)  # noqa: T201 - this process's log
            step()

    def _network(self) -> None:
        world.prepare()
        world.build(self.plan, self.folder)

    def _git(self) -> None:
        self.processes["git"] = world.start_git(self.folder)
        world.wait_for_git()

    def _exits(self) -> None:
        self.processes["relay"] = world.start_relay(self.plan, self.folder)
        world.wait_for_socket(self.folder.relay_socket, self.processes["relay"])
        self.processes["providers"] = world.start_providers(self.plan, self.folder, self.providers)
        world.wait_for_socket(self.folder.provider_socket, self.processes["providers"])

    def _workloads(self) -> list[str]:
        return [name for name, space in self.plan.spaces.items() if space.role == "workload"]

    def _machines(self) -> None:
        for name in self._workloads():
            self.processes[name] = world.start_workload(self.folder, name)
        for name in self.clients:
            world.start_client(self.folder, name)

    def _agents(self) -> None:
        for host in self.hosts:
            self.processes[host] = world.start_agent(self.folder, host)

    # Requests

    def answer(self, request: dict[str, Any], files: Sequence[int], connection: socket.socket) -> dict[str, Any]:
        """The answer to a request. An error is an answer, too."""
        match request:
            case {"do": "describe"}:
                return self._describe()
            case {"do": "exec", "space": str(space), "command": [*command]} if space in self.plan.spaces:
                return {"code": _run(world.inside(space, *command), files, connection)}
            case {"do": "exec", "space": space}:
                return {"error": f"there is no {space!r}: {', '.join(sorted(self.plan.spaces))}"}
            case {"do": "ping", "pairs": [*pairs]}:
                with ThreadPoolExecutor(PINGS_AT_ONCE) as pool:
                    return {"results": list(pool.map(lambda pair: _ping(*pair), pairs))}
            case {"do": "restart", "host": str(host), "signal": int(number)} if host in self.hosts:
                return self._restart(host, number)
            case {"do": "line" | "fault" as what, **arguments} if self.providers:
                path = self.folder.relay_socket if what == "line" else self.folder.provider_socket
                return call(str(path), what, **arguments)
            case {"do": "line" | "fault"}:
                return {"error": "this network has no exits by a provider"}
            case {"do": "clients"}:
                return self._reconfigure()
        return {"error": "unknown request"}

    def _describe(self) -> dict[str, Any]:
        return {
            "hosts": self.hosts,
            "clients": self.clients,
            "notes": self.plan.notes,
            "spare": self.plan.spare,
            "spaces": {name: space.role for name, space in self.plan.spaces.items()},
            "endpoints": [
                {"network": e.network, "space": e.space, "addresses": {str(v): a for v, a in e.addresses.items()}}
                for e in self.plan.endpoints
            ],
            "dead": [name for name, process in self.processes.items() if process.poll() is not None],
        }

    def _reconfigure(self) -> dict[str, Any]:
        """Load the clients' new configurations. On a real client, a person does this, because it has no agent."""
        known = self._fabric().clients
        for name in self.clients:
            if name in known:
                world.configure_client(self.folder, name)
        return {"ok": True}

    def _restart(self, host: str, number: int) -> dict[str, Any]:
        process = self.processes[host]
        process.send_signal(number)
        code = process.wait()
        self.processes[host] = world.start_agent(self.folder, host)
        return {"code": code}


def _ping(space: str, address: str, tries: int) -> float | None:
    """The round trip in ms; None without an answer. The first try may have to wait for a handshake."""
    for _ in range(tries):
        command = world.inside(space, "ping", "-n", "-c", "1", "-W", "2", address)
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode == 0 and "time=" in done.stdout:
            return float(done.stdout.split("time=", 1)[1].split()[0])
    return None


def _run(command: Sequence[str], files: Sequence[int], connection: socket.socket) -> int:
    """Run a command with the caller's standard streams. It ends when the caller disconnects.

    Background processes of the command continue as long as the lab runs.
    """
    process = subprocess.Popen(command, stdin=files[0], stdout=files[1], stderr=files[2], start_new_session=True)

    def gone() -> None:
        if not connection.recv(1) and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    threading.Thread(target=gone, daemon=True).start()
    return process.wait()


def serve(lab: Lab, listener: socket.socket) -> None:
    """Serve requests as long as the lab runs."""

    def talk(connection: socket.socket) -> None:
        with connection:
            data, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            try:
                request = json.loads(data)
                answer = lab.answer(request, files, connection)
            except (ValueError, OSError, IndexError, RuntimeError, Unreachable) as error:
                answer = {"error": str(error)}
            for file in files:
                os.close(file)
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                pass

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


def main(root: str, sites: str) -> int:
    folder = LabFolder(Path(root))
    try:
        lab = Lab(folder, Path(sites))
        lab.build()
    except (RuntimeError, OSError) as error:
        print(f"lab: error: {error}", flush=True)  # noqa: T201 - this process's log
        return 1
    folder.socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.socket))
        listener.listen(64)
        print("lab: ready", flush=True)  # noqa: T201 - this process's log
        serve(lab, listener)
    return 0


def first_process(child: int) -> int:
    """The first process of a PID namespace inherits orphans, such as wireguard-go, and must reap them."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    if os.getpid() != 1:
        sys.exit("lab.server runs in a PID namespace of its own: use `gitwan lab up`")
    worker = os.fork()
    sys.exit(first_process(worker) if worker else main(sys.argv[1], sys.argv[2]))
