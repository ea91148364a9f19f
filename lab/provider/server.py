"""The process of all simulated providers: `python -m lab.provider.server FILE`. Its sockets are in the servers'
namespaces.

FILE is JSON: `files` (the folder of `make.py`), `kinds`, `names` and `names6` (DNS name -> IPv4 or IPv6 address), and
`socket`, the control socket that switches faults at run time.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lab.provider import mullvad, pia
from lab.provider.make import Files
from lab.provider.mullvad import MullvadTwin
from lab.provider.pia import PiaTwin
from lab.provider.places import Gate, api_space, gates_of
from lab.provider.tunnels import PORTAL_PORT, ServerTunnels
from lab.provider.twin import Call, Faults, HttpReply
from lab.provider.web import DnsServer, Responder, WebServer

PORT_FORWARDING = 19999
PORTAL = HttpReply(200, b"<html><title>Sign in</title>Welcome to this network</html>", {"Content-Type": "text/html"})


class Providers:
    """All running services."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.files = Files(Path(settings["files"]))
        self.names, self.names6 = dict(settings["names"]), dict(settings["names6"])
        self.gates = gates_of(settings["kinds"])
        self.faults, self.tunnels = Faults(), ServerTunnels()
        self.twins: dict[str, PiaTwin | MullvadTwin] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start all services. Raises OSError or CalledProcessError."""
        for gate in self.gates:
            self.tunnels.start(gate, self.files)
        keys = {gate.server: self.files.public(gate) for gate in self.gates}
        for kind in sorted({gate.kind for gate in self.gates}):
            own = [gate for gate in self.gates if gate.kind == kind]
            if kind == "pia":
                lists = {name: self.files.list(name).read_bytes() for name in ("good", "bad")}
                self.twins[kind] = PiaTwin(own, lists, keys, self.tunnels, self.faults, _number)
            else:
                self.twins[kind] = MullvadTwin(own, keys, self.tunnels, self.faults, _number)
            name = api_space(kind)
            WebServer(name, "0.0.0.0", 443, name, self._answers(kind), self.faults, self.files, name)
            for gate in own:
                self._serve(gate)

    def _serve(self, gate: Gate) -> None:
        answer, at = self._answers(gate.kind), gate.server
        if gate.kind == "pia":
            name = pia.meta_name(gate)
            WebServer(gate.space, gate.address, gate.port, at, answer, self.faults, self.files, at)
            WebServer(gate.space, gate.address, 443, name, answer, self.faults, self.files, name)
            WebServer(gate.space, pia.vip(gate), PORT_FORWARDING, at, answer, self.faults, self.files, at)
        WebServer(gate.space, "0.0.0.0", PORTAL_PORT, f"{at}-portal", lambda _: PORTAL, self.faults)
        for address in [pia.DNS] if gate.kind == "pia" else [mullvad.DNS, mullvad.DNS6]:
            DnsServer(gate.space, address, self.names, self.names6)

    def _answers(self, kind: str) -> Responder:
        def answer(call: Call) -> HttpReply:
            with self._lock:
                return self.twins[kind].answer(call, time.time())

        return answer

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """Handle a request to the lab: a fault at a server, or the expiry of all tokens."""
        at, fault = request.get("at"), request.get("fault")
        if fault == "forget-tokens":
            with self._lock:
                for twin in self.twins.values():
                    twin.forget_tokens()
            return {"ok": True}
        places = {api_space(gate.kind): None for gate in self.gates} | {gate.server: gate for gate in self.gates}
        if at not in places:
            return {"error": f"there is no {at!r}: {', '.join(places)}"}
        try:
            self.faults.set(at, str(fault or ""))
        except ValueError as error:
            return {"error": str(error)}
        if gate := places[at]:
            self.tunnels.portal(gate, fault == "portal")
        return {"ok": True}


def _number() -> str:
    return os.urandom(16).hex()


def main(path: str) -> None:
    settings = json.loads(Path(path).read_text())
    providers = Providers(settings)
    providers.start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(settings["socket"])
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5.0)
                try:
                    if line := connection.makefile("rb").readline():
                        connection.sendall(json.dumps(providers.control(json.loads(line))).encode() + b"\n")
                except (OSError, ValueError) as error:
                    sys.stderr.write(f"control: {error}\n")


if __name__ == "__main__":
    main(sys.argv[1])
