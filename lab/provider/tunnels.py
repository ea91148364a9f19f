"""The WireGuard devices of the gates, the kernel's or wireguard-go's, and the NAT rules of their namespaces."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from threading import Lock

from lab.netns import NETNS
from lab.provider import mullvad, pia
from lab.provider.make import Files
from lab.provider.places import Gate

PORTAL_PORT = 8088
MTU = 1420


def inside(space: str, *command: str) -> list[str]:
    """The command line to run a command in a namespace of `ip netns`, with the mounts of this process."""
    return ["nsenter", f"--net={NETNS / space}", "--", *command]


class ServerTunnels:
    """Changes the gates' devices for the simulated providers. Raises CalledProcessError if the kernel refuses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._portals: set[str] = set()
        self._ports: dict[tuple[str, int], str] = {}

    def _run(self, gate: Gate, *command: str) -> None:
        with self._lock:  # iptables does not wait for a lock by default
            subprocess.run(inside(gate.space, *command), check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def start(self, gate: Gate, files: Files) -> None:
        """Create the device, its addresses, and the address of its DNS server."""
        dev = gate.tunnel
        kernel = f"ip link add {dev} type wireguard 2>/dev/null"
        self._run(gate, "sh", "-c", f"{kernel} || LOG_LEVEL=silent wireguard-go {dev}")
        self._run(gate, "wg", "set", dev, "private-key", str(files.key(gate)), "listen-port", str(gate.port))
        if gate.kind == "pia":
            addresses = [f"{pia.vip(gate)}/24"]
            self._run(gate, "ip", "address", "add", f"{pia.DNS}/32", "dev", "lo")
        else:
            addresses = [f"{mullvad.DNS}/10", f"{mullvad.DNS6}/64"]
        for address in addresses:
            self._run(gate, "ip", "address", "add", address, "dev", dev, *(["nodad"] if ":" in address else []))
        self._run(gate, "ip", "link", "set", dev, "mtu", str(MTU), "up")

    def add(self, gate: Gate, public_key: str, addresses: Sequence[str]) -> None:
        self._run(gate, "wg", "set", gate.tunnel, "peer", public_key, "allowed-ips", ",".join(addresses))

    def remove(self, gate: Gate, public_key: str) -> None:
        self._run(gate, "wg", "set", gate.tunnel, "peer", public_key, "remove")

    def lead(self, gate: Gate, port: int, address: str) -> None:
        before = self._ports.get((gate.server, port))
        if before == address:
            return
        for action, target in (("-D", before), ("-A", address)):
            for protocol in ("tcp", "udp") if target else ():
                self._run(
                    gate, "iptables", "-w", "-t", "nat", action, "PREROUTING", "-i", "wan", "-p", protocol, "--dport",
                    str(port), "-j", "DNAT", "--to-destination", str(target),
                )  # fmt: skip
        self._ports[gate.server, port] = address

    def portal(self, gate: Gate, on: bool) -> None:
        """Switch the captive portal of a gate on or off: HTTP through its tunnel then ends at the portal."""
        if on == (gate.server in self._portals):
            return
        self._run(
            gate, "iptables", "-w", "-t", "nat", "-A" if on else "-D", "PREROUTING", "-i", gate.tunnel, "-p", "tcp",
            "--dport", "80", "-j", "REDIRECT", "--to-ports", str(PORTAL_PORT),
        )  # fmt: skip
        (self._portals.add if on else self._portals.discard)(gate.server)
