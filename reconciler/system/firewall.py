"""Our own chains in the kernel's packet filter, through iptables-save(8) and iptables-restore(8).

One restore per family carries all changes; the necessary jumps are computed from a save just before it.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from reconciler.kinds.base import Failure, Observed
from reconciler.kinds.firewall import PREFIX
from schema.plan import Change, Firewall
from schema.plan.base import Family

SAVE = {"inet": "iptables-save", "inet6": "ip6tables-save"}
RESTORE = {"inet": "iptables-restore", "inet6": "ip6tables-restore"}
LOCK_SECONDS = 5
_TOOL_SECONDS = 30.0
_IPV6 = Path("/proc/net/if_inet6")


@dataclass(slots=True)
class Table:
    """Our part of one table."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    """The rules of each chain, as text."""
    jumps: dict[str, list[str]] = field(default_factory=dict)
    """Our chain -> the chains with an unconditional jump to it, once per jump."""


def parse(saved: str) -> dict[str, Table]:
    """Our chains by table, from the output of iptables-save."""
    tables: dict[str, Table] = {}
    table = Table()
    for line in saved.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:], Table())
        elif line.startswith(f":{PREFIX}"):
            table.chains[line[1:].split(" ", 1)[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = (*line.split(" ", 2), "")[:3]
            if chain.startswith(PREFIX):
                table.chains[chain].append(rule)
            elif rule.startswith(f"-j {PREFIX}") and rule.count(" ") == 1:
                table.jumps.setdefault(rule[3:], []).append(chain)
    return tables


def to_observed(family: Family, tables: dict[str, Table]) -> list[Observed[Firewall]]:
    """Our chains. A chain with no jump or several has no hook, and so differs from any desired one."""
    found = []
    for name, table in tables.items():
        for chain, rules in table.chains.items():
            hooks = table.jumps.get(chain, [])
            resource = Firewall.model_construct(
                None,
                kind="firewall",
                family=family,
                table=cast(Any, name),
                chain=chain,
                hook=cast(Any, hooks[0] if len(hooks) == 1 else ""),
                rules=tuple(rules),
            )
            found.append(Observed(resource, PREFIX))
    return found


def script(changes: Iterable[Change], tables: dict[str, Table]) -> str:
    """The input of `iptables-restore --noflush` for the changes of one family. Empty if there is nothing to do.

    Declaring a chain creates or empties it. Jumps to it that are misplaced or duplicate are removed first.
    """
    by_table: dict[str, list[Change]] = {}
    for change in changes:
        assert isinstance(change.resource, Firewall)
        by_table.setdefault(change.resource.table, []).append(change)
    lines: list[str] = []
    for name, of_table in by_table.items():
        body = _table_lines(of_table, tables.get(name, Table()))
        if body:
            lines += [f"*{name}", *body, "COMMIT"]
    return "".join(f"{line}\n" for line in lines)


def _table_lines(changes: list[Change], table: Table) -> list[str]:
    declared: list[str] = []
    rules: list[str] = []
    removed: list[str] = []
    for change in changes:
        resource = change.resource
        assert isinstance(resource, Firewall)
        chain, hooks = resource.chain, table.jumps.get(resource.chain, [])
        if change.after is None:
            if chain in table.chains:
                declared.append(f":{chain} - [0:0]")
                rules += [f"-D {hook} -j {chain}" for hook in hooks]
                removed.append(f"-X {chain}")
            continue
        declared.append(f":{chain} - [0:0]")
        rules += [f"-A {chain} {rule}" for rule in resource.rules]
        if hooks != [resource.hook]:
            rules += [f"-D {hook} -j {chain}" for hook in hooks]
            rules.append(f"-I {resource.hook} 1 -j {chain}")
    return declared + rules + removed


class FirewallDriver:
    """Chains named GITWAN-… in every table of both families."""

    def observe(self) -> list[Observed[Firewall]]:
        found: list[Observed[Firewall]] = []
        families: tuple[Family, ...] = ("inet", "inet6")
        for family in families:
            if family == "inet" or _IPV6.exists():
                try:
                    found += to_observed(family, self._read(family))
                except FileNotFoundError:
                    continue  # without the tool there is nothing of ours; creating will report that it is missing
        return found

    def apply(self, changes: Sequence[Change]) -> list[Failure]:
        by_family: dict[Family, list[Change]] = {}
        for change in changes:
            assert isinstance(change.resource, Firewall)
            by_family.setdefault(change.resource.family, []).append(change)
        failures: list[Failure] = []
        for family, of_family in by_family.items():
            failures += self._apply_family(family, of_family)
        return failures

    def _apply_family(self, family: Family, changes: list[Change]) -> list[Failure]:
        """Apply all changes in one transaction; if it is refused, apply each separately to find the refused ones."""
        try:
            refusal = self._restore(family, script(changes, self._read(family)))
        except FileNotFoundError:
            return [Failure(change, "ENOENT", f"{RESTORE[family]} is not installed") for change in changes]
        if not refusal:
            return []
        if len(changes) == 1:
            return [Failure(changes[0], "", refusal)]
        failures: list[Failure] = []
        for change in changes:
            failures += self._apply_family(family, [change])
        return failures

    def _read(self, family: Family) -> dict[str, Table]:
        """Raises FileNotFoundError if the tool is missing, OSError if it fails."""
        done = _run([SAVE[family]], "")
        if done.returncode:
            raise OSError(errno.EIO, f"{SAVE[family]}: {_first_line(done.stderr)}")
        return parse(done.stdout)

    def _restore(self, family: Family, text: str) -> str:
        """Run one transaction. Returns the tool's error text, or ""."""
        if not text:
            return ""
        done = _run([RESTORE[family], "--noflush", "-w", str(LOCK_SECONDS)], text)
        return _first_line(done.stderr) or f"exit status {done.returncode}" if done.returncode else ""


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False,
            start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} did not end") from None


def _first_line(text: str) -> str:
    """The tool's first error line; later lines only advise to read its help."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "Try "))]
    return lines[0] if lines else ""
