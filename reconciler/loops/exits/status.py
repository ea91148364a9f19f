"""How exits are: for machines, and in a line each for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.conditions import Condition
from reconciler.loops.exits.election import candidates, standing
from reconciler.loops.exits.forwarding import Forwarding
from reconciler.loops.exits.policy import Policy
from reconciler.loops.exits.providers.base import ProviderError
from reconciler.loops.exits.tunnel import Tunnel
from schema.plan import Exit


def row(
    policy: Policy, now: float, forwarding: Forwarding | None = None, unprobed: ProviderError | None = None
) -> dict[str, Any]:
    """One exit. Seconds throughout. `unprobed`: why its probes are not sent."""
    return {
        "name": policy.exit.name,
        "provider": policy.exit.provider,
        "kill_switch": policy.exit.kill_switch,
        "use": policy.exit.use,
        "pinned": policy.pinned,
        "switches": policy.switches,
        "gateways": len(policy.gateways),
        "cooling": sum(policy.cooling(gateway, now) for gateway in policy.gateways),
        "tunnels": [_tunnel(policy, tunnel, now) for _, tunnel in sorted(policy.tunnels.items())],
        "trouble": _said(policy.trouble or unprobed),
        "port": forwarding.number if forwarding else None,
        "port_trouble": _said(forwarding.trouble) if forwarding else None,
    }


def broken(exit: Exit, error: ProviderError) -> dict[str, Any]:
    """An exit that cannot be looked after."""
    found = {"name": exit.name, "provider": exit.provider, "kill_switch": exit.kill_switch}
    return {**found, "tunnels": [], "trouble": _said(error)}


def _said(error: ProviderError | None) -> dict[str, str] | None:
    return {"reason": error.reason, "message": error.message} if error else None


def _tunnel(policy: Policy, tunnel: Tunnel, now: float) -> dict[str, Any]:
    pulse = tunnel.pulse
    newest = next((rtt for rtt in reversed(pulse.window) if rtt is not None), None)
    return {
        "device": policy.exit.slots[tunnel.slot].dev,
        "gateway": tunnel.gateway.id,
        "phase": tunnel.phase,
        "seconds": now - tunnel.since,
        "endpoint": tunnel.session.endpoint if tunnel.session else None,
        "latency": policy.latencies.get(tunnel.gateway.id),
        "rtt": newest,
        "mean": pulse.mean,
        "baseline": pulse.baseline,
        "limit": pulse.limit,
        "window": list(pulse.window),
        "loss": pulse.loss,
        "strikes": pulse.strikes,
        "allowed": pulse.settings.strikes,
        "fault": pulse.fault,
        "degraded": pulse.degraded,
        "handshake_age": pulse.handshake,
    }


def choices(policy: Policy, now: float) -> list[dict[str, Any]]:
    """The gateways that an exit may take."""
    used = {tunnel.gateway.id: tunnel.phase for tunnel in policy.tunnels.values()}
    return [
        {
            "exit": policy.exit.name,
            "gateway": gateway.id,
            "country": gateway.country,
            "address": gateway.addresses[0],
            "latency": policy.latencies.get(gateway.id),
            "cooling": policy.cooling(gateway.id, now),
            "standing": standing(policy.exit, gateway, policy.pinned),
            "phase": used.get(gateway.id),
        }
        for gateway in candidates(policy.exit, policy.gateways.values())
    ]


def conclude(rows: Sequence[Mapping[str, Any]]) -> Condition | None:
    """The condition `Exits`: whether every exit has what it should have. None where there are none."""
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
    # The way to the internet is there, which is what this condition is about; what is missing is said beside it.
    ports = [f"{one['name']} has no port: {one['port_trouble']['message']}" for one in rows if one.get("port_trouble")]
    return Condition("Exits", "True", "Connected", "; ".join([", ".join(names), *ports]))


def _fate(one: Mapping[str, Any]) -> str:
    """What becomes of traffic that has no gateway."""
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
    """`14 ms`, `2.02 s`."""
    if seconds is None:
        return "unknown"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
