"""The agent's status: a JSON object for machines, and a few lines for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reconciler import loops
from reconciler.base.words import and_more
from reconciler.kinds.base import Observed
from reconciler.kinds.peer import is_fresh
from reconciler.loops.base import TunnelNote
from reconciler.report.conditions import REMARKS, Condition, short
from reconciler.report.report import Report
from reconciler.state.commits import Rejected
from schema.plan import Change, Key, Resource

MARKS = {"True": "✓", "False": "✗", "Unknown": "?"}
SHOWN = 10
"""The maximum number of pending changes shown in full; the others are only counted."""


@dataclass(slots=True)
class Drift:
    """What was repaired since the agent started, and what is not repaired while it is suspended."""

    by_kind: dict[str, int] = field(default_factory=dict)
    last: str = ""
    last_time: float = 0.0
    held: dict[str, list[Change]] = field(default_factory=dict)
    """By kind."""

    def note(self, repaired: Sequence[Change], now: float) -> None:
        for change in repaired:
            kind = change.resource.kind
            self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        if repaired:
            more = and_more(repaired)
            first = repaired[0].resource
            self.last, self.last_time = f"{first.kind} {first.describe()}{more}", now

    def waiting(self) -> list[Change]:
        """The changes that wait for the end of the suspension."""
        return [change for _, changes in sorted(self.held.items()) for change in changes]

    def json(self) -> dict[str, Any]:
        total = sum(self.by_kind.values())
        held = [change.describe() for change in self.waiting()]
        repaired = {"repaired": total, "by_kind": dict(self.by_kind), "last": self.last, "last_time": self.last_time}
        return {**repaired, "held": held}


def tunnels(
    observed: Callable[[Key], Observed[Any] | None],
    desired: Iterable[tuple[Key, Resource]],
    notes: Mapping[str, TunnelNote],
    idle: Container[str],
) -> list[dict[str, Any]]:
    """One row per peer of the plan: device, name, public key, endpoint, seconds since the handshake, bytes, up.

    A probed tunnel also has: alive, the reason if not, round trip in seconds, share lost. A tunnel in `idle`, which
    does not carry traffic yet or any more, is not up, whatever its session says.
    """
    rows = []
    for key, peer in desired:
        one = observed(key)
        session = one.session if one else None
        device = str(key[0])
        note = notes.get(device)
        used = device not in idle and (note is None or note.alive)
        rows.append(
            {
                "device": device,
                "name": getattr(peer, "name", ""),
                "public_key": key[1],
                "endpoint": session.endpoint if session else None,
                "handshake_age": session.handshake_age if session else None,
                "rx_bytes": session.rx_bytes if session else 0,
                "tx_bytes": session.tx_bytes if session else 0,
                "up": one is not None and is_fresh(one) and used,
                "probe": note and {"alive": note.alive, "reason": note.text, "rtt": note.rtt, "loss": note.loss},
            }
        )
    return rows


def build(
    *,
    host: str,
    source: str,
    report: Report | None,
    digest: str,
    commit: str,
    conditions: Iterable[Condition],
    drift: Drift,
    peers: list[dict[str, Any]],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    overlays: Mapping[str, Mapping[str, int]],
    rejected: Iterable[Rejected] = (),
    now: float,
) -> dict[str, Any]:
    """The whole status, as in status.json and `--json`. Times are in seconds since the epoch.

    `rows` are the loops' rows by loop name; `overlays` counts the resources that each loop adds to the plan, by kind.
    """
    confirmed = report.confirmed if report else None
    return {
        "host": host,
        "source": source,
        "commit": commit,
        "digest": digest,
        "confirmed_time": confirmed.time if confirmed else None,
        "conditions": [condition.json() for condition in conditions],
        "cycle": report.json() if report else None,
        "drift": drift.json(),
        "tunnels": peers,
        **{name: list(of_loop) for name, of_loop in rows.items()},
        "overlays": {owner: dict(of_kind) for owner, of_kind in overlays.items()},
        "rejected": [asdict(one) for one in sorted(rejected, key=lambda one: one.time)],
        "time": now,
    }


def ok(status: Mapping[str, Any]) -> bool:
    return all(c["status"] == "True" for c in status["conditions"] if c["type"] not in REMARKS)


def render(status: Mapping[str, Any], now: float) -> str:
    """The status in a few lines, independent of a terminal."""
    host = str(status["host"])
    pad = " " * (len(host) + 3)
    marks = "  ".join(f"{c['type']} {MARKS[c['status']]}" for c in status["conditions"] if c["type"] not in REMARKS)
    when = status["confirmed_time"]
    at = f"{status['source']}@{short(status['commit'])}  {ago(now - when)}" if when else "nothing confirmed"
    lines = [f"{host}   {at}   {marks}"]
    lines += [
        f"{pad}{c['type']}: {c['reason']}: {c['message']}" for c in status["conditions"] if c["status"] == "False"
    ] + [f"{pad}{c['type']}: {c['message']}" for c in status["conditions"] if c["type"] in REMARKS]
    cycle = status["cycle"]
    if cycle:
        lines.append(
            f"{pad}last cycle: {cycle['result']}, {cycle['operations']} operations in {cycle['seconds']:.2f} s"
        )
        if cycle["foreign"]:
            lines.append(f"{pad}satisfied by others: {len(cycle['foreign'])}, first {cycle['foreign'][0]}")
    lines += [
        f"{pad}rejected {short(one['commit'])} {ago(now - one['time'])}: {one['reason']}: {one['message']}"
        for one in status.get("rejected", [])[-1:]
    ]
    lines += [pad + line for line in _tunnel_lines(status["tunnels"])]
    lines += [pad + line for plug in loops.LOOPS if plug.shows for line in plug.lines(status.get(plug.name, ()))]
    drift = status["drift"]
    held = drift["held"]
    last = f"; last repaired {ago(now - drift['last_time'])}: {drift['last']}" if drift["repaired"] else ""
    if drift["repaired"] or not held:
        lines.append(f"{pad}drift: {drift['repaired'] or 'none'}{last}")
    if held:
        lines += [f"{pad}drift that is not repaired:", *(f"{pad}  {line}" for line in held[:SHOWN])]
    if len(held) > SHOWN:
        lines.append(f"{pad}  … and {len(held) - SHOWN} more")
    return "\n".join(lines)


def _tunnel_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    up = sum(bool(row["up"]) for row in rows)
    lines = [f"tunnels {up}/{len(rows)}"]
    for row in rows:
        age = row["handshake_age"]
        name = row["name"] or str(row["public_key"])[:8] + "…"
        heard = "never" if age is None else ago(age)
        lines.append(
            f"  {MARKS['True' if row['up'] else 'False']} {row['device']:<15}  {name:<20}  "
            f"{row['endpoint'] or '-':<28}  handshake {heard}, {size(row['rx_bytes'])} in, {size(row['tx_bytes'])} out"
            f"{_probe(row.get('probe'))}"
        )
    return lines


def _probe(probe: Mapping[str, Any] | None) -> str:
    if probe is None:
        return ""
    rtt = f", {probe['rtt'] * 1000:.1f} ms" if probe["rtt"] is not None else ""
    loss = f", {probe['loss']:.0%} lost" if probe["loss"] else ""
    return f"{rtt}{loss}" + ("" if probe["alive"] else f": {probe['reason']}")


def ago(seconds: float) -> str:
    """A duration in one rounded unit: `3 m ago`."""
    seconds = max(0.0, seconds)
    for limit, unit, divisor in ((60, "s", 1), (3600, "m", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds // divisor)} {unit} ago"
    return f"{int(seconds // 86400)} d ago"


def size(count: int) -> str:
    """A number of bytes in a readable unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
