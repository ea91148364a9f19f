"""`gitwan agent run --once` compared to `ifstatecli apply`: 5,000 routes, as whole processes, in their own namespaces.

ifstate removes links and namespaces that are not in its file, so it runs in namespaces with nothing else in them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.generate import many_routes
from bench.private import enter, in_private, run
from bench.rows import OUT, Board, Row
from bench.timing import Times, timed
from compiler.compile import compile_files
from schema.plan import Route

ROUTES = 5_000
TURNS = 7
TOOLS = Path(sys.executable).parent
ADDRESS = "192.168.0.1/24"
AGENT = """\
host: bench
source: {{git: "file://{repository}"}}
state: {state}
socket: {state}/agent.sock
keys: {state}/keys
metrics: off
"""
IFSTATE = """\
interfaces:
  eth0:
    addresses: [{address}]
    link: {{kind: veth, peer: eth0-far, state: up}}
  eth0-far:
    addresses: []
    link: {{kind: veth, peer: eth0, state: up}}
routing:
  routes:
"""


def measure(board: Board) -> None:
    OUT.mkdir(exist_ok=True)
    times: Times = {"gitwan empty": [], "gitwan same": [], "ifstate empty": [], "ifstate same": []}
    with tempfile.TemporaryDirectory(dir=OUT) as folder, board.working("5,000 routes as whole processes"):
        count = _prepare(Path(folder))
        for _ in range(TURNS):
            for tool in ("gitwan", "ifstate"):
                for name, seconds in in_private("bench.processes", tool, folder, str(count)).items():
                    times[f"{tool} {name}"].append(seconds)
    for name, text in (("empty", "from empty"), ("same", "without change")):
        ours, theirs = (median(times[f"{tool} {name}"]) for tool in ("gitwan", "ifstate"))
        board.add(
            Row(f"`gitwan agent run --once`, 5,000 routes, {text}", theirs / ours, "x as fast as ifstate", 4.0,
                at_least=True, note=f"{ours:.2f} s; `ifstatecli apply` {theirs:.2f} s")
        )  # fmt: skip


def _prepare(folder: Path) -> int:
    """Write a repository for gitwan and a file for ifstate with the same routes. Returns the number of routes."""
    files = many_routes(ROUTES)
    for name, content in files.items():
        path = folder / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    git = ("git", "-C", str(folder / "repository"), "-c", "user.name=bench", "-c", "user.email=bench@localhost")
    run(*git, "init", "-q", "-b", "main")
    run(*git, "add", ".")
    run(*git, "-c", "commit.gpgsign=false", "commit", "-q", "-m", "bench: many routes")
    plan = compile_files(files).plan("bench")
    routes = [r for r in plan.resources if isinstance(r, Route) and r.type == "unicast"]
    lines = [f"    - {{to: {r.dst}, via: {r.via}, dev: {r.dev}, preference: {r.metric}}}\n" for r in routes]
    (folder / "ifstate.yaml").write_text(IFSTATE.format(address=ADDRESS) + "".join(lines))
    return len(routes)


def _inside(tool: str, folder: Path, count: int) -> dict[str, float]:
    enter("eth0")
    if tool == "gitwan":
        with tempfile.TemporaryDirectory(dir=folder) as state:
            config = Path(state) / "agent.yaml"
            config.write_text(AGENT.format(repository=folder / "repository", state=state))
            return _two(f"{TOOLS}/gitwan", "agent", "run", "--once", "--config", str(config), count=count)
    # ifstate needs the address before it resolves gateways, as on a host that has booted.
    run("ip", "address", "add", ADDRESS, "dev", "eth0")
    return _two(f"{TOOLS}/ifstatecli", "-q", "-c", str(folder / "ifstate.yaml"), "apply", count=count)


def _two(*command: str, count: int) -> dict[str, float]:
    """Run a command twice, from empty and without a change. Raises an error unless the routes exist after each run."""
    times = {}
    for name in ("empty", "same"):
        times[name] = timed(lambda: run(*command))
        shown = subprocess.run(["ip", "route", "show"], capture_output=True, check=True).stdout
        found = shown.count(b" via ")
        if found != count:
            raise RuntimeError(f"{command[0]}: {found} of {count} routes")
    return times


if __name__ == "__main__":
    print(json.dumps(_inside(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
