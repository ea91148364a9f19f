"""Turns the rows of exits into one condition, and a line each for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.report.conditions import Condition


def conclude(rows: Sequence[Mapping[str, Any]]) -> Condition | None:
    """The condition `Exits`: whether every exit has the tunnels that it should have. None if there are no exits."""
    if not rows:
        return None
    for one in rows:
        carrying = [tunnel for tunnel in one["tunnels"] if tunnel["phase"] == "carrying"]
        trouble = one["trouble"]
        said = f"; {trouble['message']}" if trouble else ""
        if not carrying:
            reason = trouble["reason"] if trouble else "Electing"
            return Condition("Exits", "False", reason, f"{one['name']} has no gateway: its traffic {_fate(one)}{said}")
        bad = next((tunnel for tunnel in carrying if tunnel["degraded"]), None)
        if bad is not None:
            text = f"{one['name']}: {bad['gateway']} is {FAULTS[bad['fault']]}, and nothing better is known{said}"
            return Condition("Exits", "False", "Degraded", text)
        if len(carrying) < one["use"]:
            text = f"{one['name']} has {len(carrying)} of {one['use']} gateways{said}"
            return Condition("Exits", "False", trouble["reason"] if trouble else "Electing", text)
    trouble = next((one for one in rows if one["trouble"]), None)
    if trouble is not None:
        found = trouble["trouble"]
        return Condition("Exits", "False", found["reason"], f"{trouble['name']} stays as it is: {found['message']}")
    names = [f"{one['name']} by {t['gateway']}" for one in rows for t in one["tunnels"] if t["phase"] == "carrying"]
    # The condition is about the path to the internet, which exists; the message names what is missing.
    ports = [f"{one['name']} has no port: {one['port_trouble']['message']}" for one in rows if one.get("port_trouble")]
    return Condition("Exits", "True", "Connected", "; ".join([", ".join(names), *ports]))


def _fate(one: Mapping[str, Any]) -> str:
    """The fate of traffic without a gateway."""
    return "is refused" if one.get("kill_switch", True) else "leaves by the underlay"


FAULTS = {
    "": "well",
    "Silent": "silent",
    "CaptivePortal": "answered for by somebody else",
    "Slow": "too slow",
    "Lossy": "losing too much",
}


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`exit pia: uk/london401 14 ms (baseline 202 ms, threshold 2.02 s, strikes 0/3)`"""
    found = []
    for one in rows:
        for tunnel in one["tunnels"]:
            found.append(f"exit {one['name']}: {tunnel['gateway']} {_state(tunnel)}")
        if not one["tunnels"]:
            found.append(f"exit {one['name']}: no gateway, traffic {_fate(one)}")
        if one.get("port"):
            found.append(f"exit {one['name']}: port {one['port']} leads here")
        if one.get("port_trouble"):
            found.append(
                f"exit {one['name']}: no port: {one['port_trouble']['reason']}: {one['port_trouble']['message']}"
            )
        if one["trouble"]:
            found.append(f"exit {one['name']}: {one['trouble']['reason']}: {one['trouble']['message']}")
    return found


def _state(tunnel: Mapping[str, Any]) -> str:
    if tunnel["phase"] != "carrying":
        return str(tunnel["phase"])
    near = f"{span(tunnel['latency'])} " if tunnel["latency"] is not None else ""
    words = [
        f"baseline {span(tunnel['baseline'])}",
        f"threshold {span(tunnel['limit'])}",
        f"strikes {tunnel['strikes']}/{tunnel['allowed']}",
    ]
    if tunnel["loss"]:
        words.append(f"{tunnel['loss']:.0%} lost")
    fault = f": {FAULTS[tunnel['fault']]}" if tunnel["strikes"] else ""
    return f"{near}({', '.join(words)}){fault}"


def span(seconds: float | None) -> str:
    """A duration as `14 ms` or `2.02 s`."""
    if seconds is None:
        return "unknown"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
