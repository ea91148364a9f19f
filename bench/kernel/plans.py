"""Two data centres connected by three legs, as YAML, and the plans for the hosts in the virtual machine."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from compiler.compile import compile_files
from reconciler.system.wg_key import generate_private, public_key
from schema.lock import lock_text

HOSTS = ("a", "b")
LEGS = ("eno1", "eno2", "eno3")
UNDERLAY = {"a": "203.0.113.10", "b": "203.0.113.20"}
LAN = {"a": "10.10.0.1", "b": "10.20.0.1"}
STATES = {
    "layer2": ("layer2", 1), "1": ("layer3+4", 1), "2": ("layer3+4", 2), "3": ("layer3+4", 3), "100": ("layer3+4", 100)
}  # fmt: skip
"""Name of a state -> the bonds' hash and the number of tunnels."""
MANY = 10
"""From this number of tunnels on, probes are less frequent, because an emulated processor has no time for more."""

SITE = """\
site: {host}
kind: datacenter
hosts:
  {host}-gw:
    underlay:
      bond: {{members: [{legs}], hash: {hash}, lacp_rate: fast}}
      addresses: [{underlay}/24]
      managed: true
    lans: {{lan0: [{lan}/16]}}
"""
FABRIC = """\
fabric: bench
version: 1
pools: {{links: [10.255.0.0/16]}}
deadline: 10m
links:
  - {{between: [a, b], tunnels: {tunnels}, health: {{interval: {interval}}}}}
"""
AGENT = """\
host: {host}-gw
source: {{plans: {folder}/plans}}
poll: {{interval: 1s, jitter: 1ms}}
state: {folder}/{host}/state
socket: {folder}/{host}/agent.sock
keys: {folder}/{host}/keys
metrics: off
"""


def write(folder: Path) -> None:
    """Write each state's plans to STATE/HOST-gw/plan.json, and each host's private key to HOST.key. Raises
    RuntimeError."""
    folder.mkdir(parents=True, exist_ok=True)
    public = {}
    for host in HOSTS:
        private = generate_private()
        (folder / f"{host}.key").write_text(base64.b64encode(private).decode() + "\n")
        public[host] = public_key(private)
    lock = b""
    for state, (policy, tunnels) in STATES.items():
        files = _files(policy, tunnels, public) | {"fabric.lock": lock}
        result = compile_files(files)
        if result.failed or result.fabric is None:
            raise RuntimeError("\n".join(problem.text() for problem in result.problems))
        lock = lock_text(result.fabric.lock).encode()
        for host, plan in result.plans().items():
            path = folder / state / host / "plan.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(plan.canonical())


def _files(policy: str, tunnels: int, public: Mapping[str, str]) -> dict[str, bytes]:
    files = {"fabric.yaml": FABRIC.format(tunnels=tunnels, interval="10s" if tunnels > MANY else "200ms")}
    for host in HOSTS:
        words = {"host": host, "legs": ", ".join(LEGS), "hash": policy, "underlay": UNDERLAY[host], "lan": LAN[host]}
        files[f"{host}.yaml"] = SITE.format(**words)
        files[f"keys/{host}-gw.pub"] = public[host] + "\n"
    return {path: text.encode() for path, text in files.items()}
