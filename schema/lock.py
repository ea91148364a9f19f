"""`fabric.lock`: the addresses and ports that are not in YAML, one sorted line each, so that branches merge.

address ams-gw1 10.255.0.1          a host's own address on all of its tunnels
client  laptop  10.51.0.1           a roaming client's address
exit    nas/own 10.52.0.1           the address of an exit with `provider: site`, at all of its gateways
port    ams-gw1 ams-gw1~fra-gw1/1 5000   the listening port of one tunnel at one end
"""

from __future__ import annotations

from collections.abc import Mapping

from schema.ip import parse_address
from schema.problem import Place, Problem

HEADER = "# What nobody wrote: kept by `gitwan lock`, merged line by line.\n"

Entry = tuple[str, ...]
"""Identifies an entry: `address HOST 4`, `client NAME 6`, `exit HOST/EXIT 4` or `port HOST TUNNEL`."""
Lock = Mapping[Entry, int]


def parse_lock(path: str, content: bytes) -> tuple[dict[Entry, int], list[Problem]]:
    """The valid entries, and a problem for each invalid line."""
    entries: dict[Entry, int] = {}
    problems: list[Problem] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _entry(line.split())
        if found is None or found[0] in entries:
            what = "names what an earlier line names" if found else "is not an entry"
            hint = "a merge may have left it: remove the line, then run `gitwan lock`"
            problems.append(Problem("GW050", Place(path, number, 1), f"{line[:60]!r} {what}", hint))
        else:
            entries[found[0]] = found[1]
    return entries, problems


def _entry(words: list[str]) -> tuple[Entry, int] | None:
    try:
        match words:
            case ["address" | "client" | "exit" as kind, name, text]:
                version, value = parse_address(text)
                return (kind, name, str(version)), value
            case ["port", host, tunnel, text] if 0 < int(text) < 65536:
                return ("port", host, tunnel), int(text)
    except ValueError:
        pass
    return None


def lock_text(entries: Lock) -> str:
    """The text of the file for these entries. Equal entries give equal bytes."""
    from schema.ip import address_text

    lines = []
    for entry, value in entries.items():
        text = str(value) if entry[0] == "port" else address_text(int(entry[2]), value)
        words = (*entry, text) if entry[0] == "port" else (*entry[:2], text)
        lines.append(" ".join(words))
    return HEADER + "".join(f"{line}\n" for line in sorted(lines))
