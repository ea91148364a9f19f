"""The example network with short deadlines, whose agents take rendered plans: a drill can hand them any plan at all."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.compile import compile_files
from compiler.shell.inputs import read_folder
from lab.client import up
from lab.drive import HANDSHAKES, compiled, wait_tunnels
from lab.folder import LabFolder
from lab.repository import git
from schema.plan import Address, HostPlan
from tests.lab.dumps import ours
from tests.lab.edits import edit
from tests.lab.twin import SITES, Twin

DEADLINE = 10.0
POLL = 5.0
JITTER = 1.0


@dataclass
class Drill:
    """A running lab, its hosts on a branch of plans, and what they held when all was well."""

    twin: Twin
    tree: Path
    """A clone whose branch is the one of plans."""
    plans: dict[str, HostPlan]
    before: dict[str, dict[str, Any]]

    def push(self, changed: dict[str, HostPlan], message: str) -> str:
        """Plans of some hosts, in place of what they had; the commit."""
        for host, plan in changed.items():
            folder = self.tree / host
            folder.mkdir(exist_ok=True)
            (folder / "plan.json").write_bytes(plan.canonical())
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-q", "--allow-empty", "-m", message)
        git(self.tree, "push", "-q", "origin", "plans")
        return git(self.tree, "rev-parse", "HEAD")

    def compiled(self, files: dict[str, str]) -> dict[str, HostPlan]:
        """The plans that change where these files say something else."""
        found = read_folder(self.twin.sites)
        edited = {name: text.encode() for name, text in files.items()}
        result = compile_files(found.files | edited, found.special)
        assert not result.failed, [problem.text() for problem in result.problems]
        return {host: plan for host, plan in result.plans().items() if plan.digest != self.plans[host].digest}

    def read(self, name: str) -> str:
        return (self.twin.sites / name).read_text()

    def state(self, host: str) -> Path:
        return self.twin.folder.host(host) / "state"

    def changing(self, host: str) -> bool:
        return (self.state(host) / "journal.json").exists()

    def rejected(self, host: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.state(host) / "rejected.json").read_text())
            return found
        return {}

    def processes(self, host: str) -> list[int]:
        """The agent's parent, and the agent where it runs; numbers of the lab's own PID namespace."""
        _, output, _ = self.twin.attempt(host, f"pgrep -f hosts/{host}/agent.yaml")
        return sorted(int(line) for line in output.split())

    def kill(self, host: str, number: signal.Signals, *, parent: bool = False) -> None:
        """A signal for the agent alone, or its parent alone."""
        found = self.processes(host)
        self.twin.run(host, f"kill -{number.value} {found[0] if parent else found[-1]}")

    def reaches_git(self, host: str) -> bool:
        """The git server's ssh port, from the host."""
        script = "exec 3<>/dev/tcp/198.18.0.2/22"
        return self.twin.attempt(host, "timeout", "1", "bash", "-c", script)[0] == 0

    def wrong(self, host: str) -> str:
        """What is not as it was before the drill; nothing where all is."""
        if self.changing(host):
            return "in mid-change"
        if not self.reaches_git(host):
            return "the git server is not reached"
        before, now = self.before[host], ours(self.twin, host)
        return "; ".join(f"{name}: {before[name]} became {now[name]}" for name in now if now[name] != before[name])

    def reboot(self, host: str) -> None:
        """What a power cut leaves: no process, no link of ours, no route, rule or chain; then what the OS starts."""
        self.kill(host, signal.SIGKILL, parent=True)
        wanted = [r for r in self.plans[host].resources if isinstance(r, Address)]
        for line in (*REBOOT, *(f"ip address del {address.address} dev {address.dev}" for address in wanted)):
            self.twin.attempt(host, "sh", "-c", line)
        self.twin.restart(host, signal.SIGKILL)


REBOOT = (
    "ip -br link show group 117 | cut -d' ' -f1 | xargs -rn1 ip link del",
    "ip -4 route flush table all proto 117; ip -6 route flush table all proto 117",
    "ip nexthop flush proto 117",
    "for t in iptables ip6tables; do for c in filter mangle; do $t -t $c -F; $t -t $c -X; done; done",
    "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
)


def begin(root: Path, poll: float = POLL) -> Drill:
    """The lab, converged on its branch of plans; fra-gw1's underlay is gitwan's own."""
    sites = root.with_name(root.name + "-sites")
    shutil.copytree(SITES, sites)
    edit(sites / "fabric.yaml", lambda fabric: fabric.update({"deadline": f"{DEADLINE:g}s"}))
    edit(sites / "fra.yaml", lambda site: site["hosts"]["fra-gw1"]["underlay"].update({"managed": True}))
    folder = LabFolder(root)
    up(sites, folder, lambda text: None)
    shutil.rmtree(sites)
    twin = Twin(folder, git(folder.work, "rev-parse", "HEAD"))
    twin.settle()
    found = compiled(folder)
    assert found.fabric is not None
    plans = found.plans()
    tree = root / "plans"
    git(root, "clone", "-q", str(folder.bare), str(tree))
    git(tree, "checkout", "-q", "--orphan", "plans")
    git(tree, "rm", "-rqf", ".")
    for secret, hosts in found.fabric.needs.items():
        for host in hosts:
            (tree / host / "secrets").mkdir(parents=True, exist_ok=True)
            shutil.copy(twin.sites / "secrets" / f"{secret}.age", tree / host / "secrets")
    drill = Drill(twin, tree, plans, {})
    commit = drill.push(plans, "every plan")
    for host in twin.hosts:
        path = folder.host(host) / "agent.yaml"
        text = (
            path.read_text().replace("branch: main", "branch: plans\n  plans: .").replace('path: "sites"', 'path: ""')
        )
        path.write_text(text.replace("{interval: 30s, jitter: 5s}", f"{{interval: {poll:g}s, jitter: {JITTER:g}s}}"))
        twin.restart(host, signal.SIGTERM)
    # What the operating system had set up goes, and comes back as ours.
    for line in ("ip address flush dev eno1", "ip route flush default", "ip -6 route flush default"):
        twin.run("fra-gw1", line)
    twin.converged(commit)
    assert wait_tunnels(folder, HANDSHAKES, lambda text: None) is not None, "a tunnel had no handshake"
    drill.before = {host: ours(twin, host) for host in twin.hosts}
    return drill
