"""`make lab`: starts the network, pings every pair of networks, and pushes a change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from compiler.compile import Compilation, compile_files
from compiler.plan.firewall import denies
from compiler.review.diff import diff_plans
from compiler.review.report import text_report
from compiler.shell.inputs import read_folder
from lab.blueprint import SPARE
from lab.client import agent, ask, path_of
from lab.folder import LabError, LabFolder
from lab.outside import exit_table, look
from lab.repository import git
from lab.table import PolicyRefuses, complaints, host_table, measure, ping_table
from reconciler.process.status import ok as all_true
from schema.input import LOCK
from schema.ip import Interface, Prefix, address_text
from schema.lock import lock_text
from schema.plan.exits import SITE_EXITS

CONVERGE = 60.0
HANDSHAKES = 30.0


@dataclass(slots=True)
class Checks:
    """The checks so far, and their results."""

    console: Console
    rows: list[tuple[str, bool, str]] = field(default_factory=list)

    def row(self, name: str, ok: bool, figure: str) -> None:
        self.rows.append((name, ok, figure))
        self.console.print(f"{'[green]ok  [/]' if ok else '[bold red]FAIL[/]'} {name}: {figure}")


def compiled(folder: LabFolder) -> Compilation:
    """The compiled network of the lab's work tree."""
    found = read_folder(folder.work / path_of(folder))
    return compile_files(found.files, found.special)


def statuses(folder: LabFolder) -> dict[str, dict[str, Any] | None]:
    """Host -> the status of its agent; None if it does not answer."""
    hosts = ask(folder, "describe")["hosts"]
    return {host: (agent(folder, host, "status") or {}).get("status") for host in hosts}


def wait(
    folder: LabFolder, commit: str, seconds: float, show: Callable[[str], None] = lambda text: None
) -> float | None:
    """Wait until all hosts are at a commit with all conditions true. Returns the seconds, or None after `seconds`."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        found = statuses(folder)
        done = [host for host, s in found.items() if s and s["commit"] == commit and all_true(s)]
        show(f"{len(done)} of {len(found)} hosts converged")
        if len(done) == len(found):
            return passed
        # Agents report their status only when asked. The resolution of this measurement is a twentieth of a second.
        time.sleep(0.05)
    return None


def show_hosts(folder: LabFolder, console: Console) -> bool:
    """Print every host, and the messages of unhealthy ones. Returns whether all are healthy."""
    found = statuses(folder)
    console.print(host_table(found))
    for line in complaints(found):
        console.print(line, markup=False, highlight=False)
    return all(status is not None and all_true(status) for status in found.values())


def wait_tunnels(folder: LabFolder, seconds: float, show: Callable[[str], None]) -> float | None:
    """Wait until every tunnel has had a handshake and traffic. If both ends begin at the same time, they retry after 5
    s.

    A gateway of other hosts' exits has no handshake with hosts that chose another gateway.
    """
    start = time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        found = statuses(folder).values()
        up = [bool(row["up"]) for s in found if s for row in s["tunnels"] if row["device"] != SITE_EXITS]
        if all(up) and all(found):
            return passed
        show(f"{sum(up)} of {len(up)} tunnel ends are up")
        time.sleep(0.2)
    return None


def demonstrate(folder: LabFolder, console: Console) -> bool:
    """Run the whole demonstration on a running lab. Returns whether every check passed."""
    checks = Checks(console)
    for note in ask(folder, "describe")["notes"]:
        console.print(f"note: {note}")
    commit = git(folder.work, "rev-parse", "HEAD")
    with console.status("waiting for the hosts to converge") as status:
        seconds = wait(folder, commit, CONVERGE, status.update)
        tunnels = wait_tunnels(folder, HANDSHAKES, status.update)
    show_hosts(folder, console)
    checks.row(f"all hosts at {commit[:7]}, all conditions true", seconds is not None, _seconds(seconds))
    checks.row("every tunnel has had its handshake", tunnels is not None, _seconds(tunnels))
    _pings(folder, checks)
    _exits(folder, checks)
    _second_cycle(folder, checks)
    _push(folder, checks)
    failed = [name for name, ok, _ in checks.rows if not ok]
    console.print(f"\n{len(checks.rows) - len(failed)} of {len(checks.rows)} rows passed")
    return not failed


def _seconds(seconds: float | None) -> str:
    return "not in time" if seconds is None else f"{seconds:.1f} s"


def refused(result: Compilation) -> PolicyRefuses:
    """Whether policy refuses traffic from one address to another."""
    rules = denies(result.fabric) if result.fabric else []

    def ask_policy(source: str, target: str) -> bool:
        a, b = Interface.parse(source).host, Interface.parse(target).host
        return any(
            any(p.covers(a) for p in sources) and any(p.covers(b) for p in targets) for sources, targets in rules
        )

    return ask_policy


def _pings(folder: LabFolder, checks: Checks) -> None:
    with checks.console.status("pinging every pair of networks"):
        cells = measure(folder, refused(compiled(folder)))
    checks.console.print(ping_table(cells))
    bad = [f"{a} to {b}" for (a, b), cell in sorted(cells.items()) if not cell.ok]
    count = sum(len(cell.times) for cell in cells.values())
    figure = f"{count} pings as policy wants them" if not bad else f"not right: {', '.join(bad[:5])}"
    checks.row(f"{len(cells)} pairs of networks, IPv4 and IPv6", bool(cells) and not bad, figure)


def _exits(folder: LabFolder, checks: Checks) -> None:
    fabric = compiled(folder).fabric
    if fabric is None:
        return
    exits, end = look(folder, fabric), time.monotonic() + HANDSHAKES
    while not all(seen.ok for seen in exits) and time.monotonic() < end:
        exits = look(folder, fabric)
    if exits:
        checks.console.print(exit_table(exits))
        figure = ", ".join(f"{seen.taker} comes from {seen.address or 'nowhere'}" for seen in exits)
        checks.row("a server outside sees each exit's gateway", all(seen.ok for seen in exits), figure)


def _second_cycle(folder: LabFolder, checks: Checks) -> None:
    answers = {host: agent(folder, host, "cycle") for host in ask(folder, "describe")["hosts"]}
    counts = {host: (a or {}).get("report", {}).get("operations") for host, a in answers.items()}
    figure = ", ".join(f"{host} {count}" for host, count in sorted(counts.items()))
    checks.row("operations of a second cycle", all(count == 0 for count in counts.values()), figure)


def _push(folder: LabFolder, checks: Checks) -> None:
    """Commit and push a new subnet and another tunnel. Then check that everybody reaches the new subnet."""
    before = compiled(folder)
    edit = change(folder, before)
    checks.console.print(f"\n[bold]edit:[/] {edit.text}")
    after = compiled(folder)
    if after.fabric is None or before.fabric is None:
        raise LabError("the edit does not compile: " + "; ".join(problem.text() for problem in after.problems))
    (folder.work / path_of(folder) / LOCK).write_text(lock_text(after.fabric.lock))
    checks.console.print(text_report(diff_plans(before.plans(), after.plans())), highlight=False, markup=False)
    git(folder.work, "commit", "-q", "-a", "-m", "lab: add a subnet and a tunnel")
    commit = git(folder.work, "rev-parse", "HEAD")
    started = time.monotonic()
    git(folder.work, "push", "-q", "lab", "main")
    with checks.console.status("waiting for the hosts to converge") as status:
        there = wait(folder, commit, CONVERGE, status.update) is not None
    # There is no limit here, because the time depends on the machine. `make bench` has a relative limit.
    checks.row("all hosts converged after the push", there, _seconds(time.monotonic() - started if there else None))
    ask(folder, "clients")
    if edit.addresses:
        sources = [e for e in ask(folder, "describe")["endpoints"] if e["addresses"]]
        pairs = [[e["space"], edit.addresses[v], 4] for e in sources for v in e["addresses"] if v in edit.addresses]
        policy = refused(after)
        ways = [(a, edit.addresses[v]) for e in sources for v, a in e["addresses"].items() if v in edit.addresses]
        wanted = [not policy(*way) for way in ways]
        results = [time is not None for time in ask(folder, "ping", pairs=pairs)["results"]]
        checks.row("pings to the new subnet", results == wanted, f"{sum(results)} of {sum(wanted)} came back")
    with checks.console.status("waiting for the new tunnel's first answers") as status:
        wait(folder, commit, HANDSHAKES, status.update)
    show_hosts(folder, checks.console)


@dataclass(frozen=True, slots=True)
class Edit:
    """What the demonstration adds to the YAML."""

    text: str
    addresses: dict[str, str] = field(default_factory=dict)


def change(folder: LabFolder, result: Compilation) -> Edit:
    """Edit the work tree: add a subnet on the spare interface, and a tunnel to the first link with several."""
    from ruamel.yaml import YAML

    fabric = result.fabric
    spare = ask(folder, "describe")["spare"]
    if fabric is None or fabric.desired.fabric is None:
        raise LabError("the network does not compile")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    root = folder.work / path_of(folder)
    words, addresses = [], {}
    if spare:
        host, space = spare
        node = fabric.nodes[host]
        networks = _free_networks(fabric.nodes.values())
        _rewrite(yaml, root / node.doc.text.path, lambda doc: _lan(doc["hosts"][host], networks))
        addresses = {str(p.version): address_text(p.version, p.first + 10) for p in networks}
        for prefix in networks:
            own = f"{addresses[str(prefix.version)]}/{prefix.length}"
            gateway = address_text(prefix.version, prefix.first + 1)
            nodad = ["nodad"] if prefix.version == 6 else []
            _inside(folder, space, "ip", "address", "add", own, "dev", "eth0", *nodad)
            _inside(folder, space, "ip", "route", "add", "default", "via", gateway)
        words.append(f"{', '.join(map(str, networks))} behind {host}")
    links = fabric.desired.fabric.model.links
    index = max(range(len(links)), key=lambda i: (links[i].tunnels, -i), default=None)
    if index is not None:
        tunnels = links[index].tunnels + 1
        path = root / fabric.desired.fabric.text.path
        _rewrite(yaml, path, lambda doc: doc["links"][index].update({"tunnels": tunnels}))
        words.append(f"tunnel {tunnels} between {' and '.join(links[index].between)}")
    return Edit("; ".join(words), addresses)


def _free_networks(nodes: Any) -> list[Prefix]:
    """An unused network of each family."""
    taken = [prefix for node in nodes for prefix in node.networks]
    choices = ([f"10.{n}.0.0/24" for n in range(99, 200)], [f"fd00:{n}::/64" for n in range(99, 200)])
    found = []
    for texts in choices:
        prefixes = map(Prefix.parse, texts)
        found.append(next(p for p in prefixes if not any(t.covers(p) or p.covers(t) for t in taken)))
    return found


def _lan(host: Any, networks: list[Prefix]) -> None:
    host.setdefault("lans", {})[SPARE] = [f"{address_text(p.version, p.first + 1)}/{p.length}" for p in networks]


def _rewrite(yaml: Any, path: Path, edit: Callable[[Any], None]) -> None:
    document = yaml.load(path.read_text())
    edit(document)
    with path.open("w") as file:
        yaml.dump(document, file)


def _inside(folder: LabFolder, space: str, *command: str) -> None:
    with Path("/dev/null").open("r+b") as null:
        code = ask(folder, "exec", [null.fileno()] * 3, space=space, command=list(command))["code"]
    if code:
        raise LabError(f"{' '.join(command)} in {space} ended with {code}")
